"""Above the transcript: which model, which cache mode, this chat's settings."""

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QMenu, QToolButton, QWidget

from app.chat.model_name import model_name
from app.chat.options import ChatOptions
from app.ui.controls import CacheSwitch, SignButton
from app.ui.theme import GAP, TIGHT, WIDE, SubtleLabel
from app.viewmodels.open_model import OpenModel
from app.viewmodels.plain_tooltip import plain_tooltip
from app.viewmodels.settings_model import SettingsModel

TITLE_WIDTH = 180
LABELLED_WIDTH = 460
"""From this width on the cache switch has its label beside it."""


class ModelPicker(SignButton):
    """Says which model is open and offers the others."""

    model_chosen = Signal(str)
    """Model folder; "" is the starter."""
    folder_asked = Signal()
    model_wanted = Signal()
    """The person wants a model that is not here yet."""

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
            action = self._menu.addAction("Starter (27.8M parameters)" if not path else model_name(Path(path)))
            action.setToolTip(plain_tooltip(path))
            action.setCheckable(True)
            action.setChecked(path == self._model.path)
            action.triggered.connect(lambda _=False, p=path: self.model_chosen.emit(p))
            if not path and recent:
                self._menu.addSeparator()
        self._menu.addSeparator()
        self._menu.addAction("Get a Real Model…").triggered.connect(self.model_wanted)
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
