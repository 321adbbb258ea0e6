"""Above the transcript: which model, which cache mode, this chat's settings, and the line about the starter."""

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPaintEvent, QPalette, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QMenu, QToolButton, QWidget

from app.chat.options import ChatOptions
from app.ui.controls import CacheSwitch, SignButton, rounded
from app.ui.theme import GAP, TIGHT, WIDE, SubtleLabel, mix
from app.viewmodels.open_model import OpenModel
from app.viewmodels.plain_tooltip import plain_tooltip
from app.viewmodels.settings_model import SettingsModel

STARTER_TEXT = (
    "The starter is a tiny model (27.8M parameters) for trying Nibble out; do not trust what it says. "
    'For real answers, <a href="open">open any mlx-lm model folder</a>. Downloads come in a later version.'
)


TITLE_WIDTH = 180
LABELLED_WIDTH = 460
"""From this width on the cache switch has its label beside it."""
_BY_KEYS = Qt.TextInteractionFlag.LinksAccessibleByKeyboard


class ModelPicker(SignButton):
    """Says which model is open and offers the others."""

    model_chosen = Signal(str)
    """Model folder; "" is the starter."""
    folder_asked = Signal()

    def __init__(self, model: OpenModel, settings: SettingsModel, parent: QWidget | None = None) -> None:
        super().__init__("chevron", "model_picker", "Choose a model", parent, text="Starter", sign_last=True)
        self._model = model
        self._settings = settings
        self._text_width = TITLE_WIDTH
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._menu = QMenu(self)
        self._menu.setObjectName("model_menu")
        self._menu.aboutToShow.connect(self.fill_menu)
        self.setMenu(self._menu)
        model.changed.connect(self._show_model)
        self._show_model()

    def fit(self, text_width: int) -> None:
        """Shorten the model's name to `text_width` pixels, where it is longer."""
        self._text_width = min(TITLE_WIDTH, text_width)
        self._show_model()

    def fill_menu(self) -> None:
        """List the starter, the recent folders, and the way to another one."""
        self._menu.clear()
        recent = self._settings.settings.recent_model_paths
        for path in ("", *recent):
            action = self._menu.addAction("Starter (27.8M parameters)" if not path else Path(path).name)
            action.setToolTip(plain_tooltip(path))
            action.setCheckable(True)
            action.setChecked(path == self._model.path)
            action.triggered.connect(lambda _=False, p=path: self.model_chosen.emit(p))
            if not path and recent:
                self._menu.addSeparator()
        self._menu.addSeparator()
        self._menu.addAction("Open Model Folder…").triggered.connect(self.folder_asked)

    def _show_model(self) -> None:
        title = self._model.title
        self.setText(self.fontMetrics().elidedText(title, Qt.TextElideMode.ElideMiddle, self._text_width))
        self.setAccessibleName(f"Model: {title}")
        facts = self._model.facts
        lines = [] if facts is None else [f"{facts.name}, {facts.architecture}", facts.path, *facts.remarks]
        self.setToolTip(plain_tooltip("\n".join(lines)) or "Choose a model")


class Header(QWidget):
    """The row of controls above the transcript."""

    options_asked = Signal()

    def __init__(self, model: OpenModel, settings: SettingsModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("header")
        self.setAccessibleName("Model and chat settings")
        self.picker = ModelPicker(model, settings)
        self.cache = CacheSwitch()
        self._label = SubtleLabel("KV cache")
        self._label.setWordWrap(False)
        options = SignButton("sliders", "chat_options", "Settings of this chat: group size, sampling, system prompt")
        options.clicked.connect(self.options_asked)
        self.panel_toggle = SignButton("panel", "panel_toggle", "Show or hide the live panel")
        self.panel_toggle.setCheckable(True)
        row = QHBoxLayout(self)
        row.setContentsMargins(WIDE, GAP, GAP, GAP)
        row.setSpacing(TIGHT)
        row.addWidget(self.picker)
        row.addStretch(1)
        row.addWidget(self._label)
        row.addSpacing(TIGHT)
        row.addWidget(self.cache)
        row.addSpacing(TIGHT)
        row.addWidget(options)
        self._row = row
        row.addWidget(self.panel_toggle)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give up what a narrow window has no room for: first the label, then the middle of the model's name."""
        super().resizeEvent(event)
        self._label.setVisible(self.width() >= LABELLED_WIDTH)
        name_width = self.picker.fontMetrics().horizontalAdvance(self.picker.text())
        self._row.invalidate()
        self.picker.fit(self.width() - self._row.minimumSize().width() + name_width)

    def show_options(self, options: ChatOptions) -> None:
        """Show what the open chat has chosen."""
        self.cache.show_mode(options.cache_mode)


class StarterNote(QFrame):
    """Says plainly what the starter is, while it is the model."""

    folder_asked = Signal()

    def __init__(self, model: OpenModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = model
        self.setObjectName("starter_note")
        self.setAccessibleName("About the starter model")
        text = SubtleLabel(STARTER_TEXT, factor=0.92)
        text.setObjectName("starter_text")
        text.setToolTip("File > Open Model Folder… opens any folder in mlx-lm's format.")
        text.setTextInteractionFlags(Qt.TextInteractionFlag.LinksAccessibleByMouse | _BY_KEYS)
        text.linkActivated.connect(self.folder_asked)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, GAP, 12, GAP)
        row.addWidget(text)
        model.changed.connect(self._show)
        self._show()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw a quiet background."""
        palette = self.palette()
        rounded(self, mix(palette.color(QPalette.ColorRole.Base), palette.color(QPalette.ColorRole.Text), 0.045))

    def _show(self) -> None:
        self.setVisible(self._model.is_starter)
