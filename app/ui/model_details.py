"""What is to say of the model that is selected in the list, how far its download is, and what can be done with it."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from app.ui.theme import GAP, TIGHT, SubtleLabel, TextLabel, scaled_font
from app.viewmodels import model_rows
from app.viewmodels.downloads import DownloadStatus
from app.viewmodels.model_rows import Action, ModelRow

_TOOLTIPS = {
    Action.OPEN: "Open this model, where it is",
    Action.GET: "Fetch this model from the Hugging Face hub",
    Action.PAUSE: "Stop fetching and keep what came",
    Action.RESUME: "Fetch what is missing",
    Action.CANCEL: "Stop fetching and remove what came",
}


class ModelDetails(QFrame):
    """Shows one row."""

    action_asked = Signal(object)
    """Action."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("model_details")
        self.setAccessibleName("The selected model")
        self._title = TextLabel()
        self._title.setObjectName("model_title")
        self._title.setFont(scaled_font(self._title.font(), 1.2, bold=True))
        self._needs = SubtleLabel()
        self._needs.setObjectName("model_needs")
        self._fit = TextLabel()
        self._fit.setObjectName("model_fit")
        self._where = SubtleLabel()
        self._where.setObjectName("model_where")
        for label in (self._title, self._needs, self._fit, self._where):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._bar = QProgressBar()
        self._bar.setObjectName("model_progress")
        self._bar.setAccessibleName("Progress of the download")
        self._bar.setTextVisible(False)
        self._progress = SubtleLabel()
        self._progress.setObjectName("model_progress_text")
        self._progress.setWordWrap(False)
        self._buttons = {action: self._button(action) for action in Action}
        self._lay_out()

    def show_row(self, row: ModelRow | None, group_size: int, can_fetch: bool) -> None:
        """Show a row, or that none is selected."""
        if row is None:
            texts = "No model is selected", "Choose one in the list above.", "", ""
        else:
            texts = (
                row.name,
                model_rows.needs_sentence(row, group_size),
                model_rows.fit_sentence(row, group_size),
                model_rows.state_tooltip(row),
            )
        for label, text in zip((self._title, self._needs, self._fit, self._where), texts, strict=True):
            label.setText(text)
            label.setVisible(bool(text))
        offered = () if row is None else model_rows.actions(row, can_fetch)
        for action, button in self._buttons.items():
            button.setVisible(action in offered)
        self._show_progress(row)

    def _show_progress(self, row: ModelRow | None) -> None:
        text = "" if row is None else model_rows.progress_text(row.download)
        self._progress.setText(text)
        self._progress.setVisible(bool(text))
        share = None if row is None else model_rows.progress_permille(row.download)
        runs = row is not None and row.download.status is DownloadStatus.RUNNING
        self._bar.setVisible(bool(text) and (share is not None or runs))
        self._bar.setRange(0, 0 if share is None else 1000)
        self._bar.setValue(share or 0)
        self._bar.setAccessibleDescription(text)

    def _lay_out(self) -> None:
        texts = QVBoxLayout()
        texts.setSpacing(TIGHT)
        for label in (self._title, self._fit, self._needs, self._where):
            texts.addWidget(label)
        progress = QHBoxLayout()
        progress.setSpacing(GAP)
        progress.addWidget(self._bar, 1)
        progress.addWidget(self._progress)
        buttons = QHBoxLayout()
        buttons.setSpacing(GAP)
        buttons.addLayout(progress, 1)
        buttons.addStretch(0)
        for button in self._buttons.values():
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP)
        column.addLayout(texts)
        column.addLayout(buttons)

    def _button(self, action: Action) -> QPushButton:
        button = QPushButton(action.value)
        button.setObjectName(f"model_{action.name.lower()}")
        button.setAccessibleName(action.value)
        button.setToolTip(_TOOLTIPS[action])
        button.setAccessibleDescription(_TOOLTIPS[action])
        button.setAutoDefault(False)
        button.clicked.connect(lambda: self.action_asked.emit(action))
        return button
