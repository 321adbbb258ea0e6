"""All models there are to choose from, whether each fits here, and the way to open or fetch one."""

from PySide6.QtCore import QEvent, QItemSelectionModel, QObject, QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeyEvent
from PySide6.QtWidgets import QDialog, QHBoxLayout, QHeaderView, QPushButton, QVBoxLayout, QWidget

from app.ui.figure_table import figure_table
from app.ui.model_details import ModelDetails
from app.ui.theme import GAP, TIGHT, WIDE, Hairline, SubtleLabel
from app.viewmodels import model_rows
from app.viewmodels.model_list import ModelList
from app.viewmodels.model_rows import Action, ModelRow
from app.viewmodels.model_table import KEY_ROLE, ModelTable

_INTRODUCTION = (
    "Models of the catalogue, and those that are on this machine already: in the Hugging Face cache, in LM Studio's "
    "folders, or opened before. All are used where they lie."
)
_NO_DOWNLOADS = "Models cannot be fetched here; those on this machine can be opened."
_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter)


class ModelsWindow(QDialog):
    """Shows the list; Return does what the first button does."""

    open_asked = Signal(str)
    """The folder of a model; "" is the starter."""
    folder_asked = Signal()
    """The person wants to look for a folder."""

    def __init__(self, models: ModelList, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setObjectName("models_window")
        self.setAccessibleName("Models")
        self.setWindowTitle("Models")
        self._models = models
        self._selected = ""
        self._is_fitted = False
        self._introduction = SubtleLabel(_INTRODUCTION if models.can_fetch else f"{_INTRODUCTION} {_NO_DOWNLOADS}")
        self._introduction.setObjectName("models_introduction")
        self._table = ModelTable(models, self)
        self._view = figure_table(self._table, self)
        self._view.setObjectName("models_table")
        self._view.setAccessibleName("Models")
        self._view.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        self._view.installEventFilter(self)
        header = self._view.horizontalHeader()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self._details = ModelDetails()
        self._refresh = _button("models_refresh", "Look Again", "Look for models on this machine again")
        self._folder = _button("models_folder", "Open Folder…", "Open any folder that holds a model in mlx-lm's format")
        self._lay_out()
        self._connect()
        models.refresh()
        self._select(next((row.key for row in models.rows if row.is_open or row.is_opening), ""))
        self._widen_columns()
        self.resize(self.sizeHint())

    def sizeHint(self) -> QSize:
        """Return a size with room for the whole table, where the screen has it."""
        return QSize(1040, 680).boundedTo(QGuiApplication.primaryScreen().availableSize())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take Return in the table for the first button."""
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress and event.key() in _ENTER:
            self._act_first()
            return True
        return super().eventFilter(watched, event)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(GAP)
        head.addWidget(self._introduction, 1)
        head.addWidget(self._refresh, 0, Qt.AlignmentFlag.AlignTop)
        head.addWidget(self._folder, 0, Qt.AlignmentFlag.AlignTop)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(WIDE, WIDE, WIDE, WIDE)
        whole.setSpacing(GAP + TIGHT)
        whole.addLayout(head)
        whole.addWidget(self._view, 1)
        whole.addWidget(Hairline())
        whole.addWidget(self._details)

    def _connect(self) -> None:
        self._models.changed.connect(self._show_rows)
        self._models.row_changed.connect(self._show_row)
        self._view.selectionModel().currentRowChanged.connect(self._take_selection)
        self._view.doubleClicked.connect(self._act_first)
        self._details.action_asked.connect(self._act)
        self._refresh.clicked.connect(self._models.refresh)
        self._folder.clicked.connect(self.folder_asked)

    # What the person does

    def _take_selection(self) -> None:
        key = self._view.currentIndex().data(KEY_ROLE)
        if key is not None:
            self._selected = key
        self._show_details()

    def _act_first(self) -> None:
        row = self._row()
        if row is not None and (offered := model_rows.actions(row, self._models.can_fetch)):
            self._act(offered[0])

    def _act(self, action: Action) -> None:
        row = self._row()
        if row is None:
            return
        match action:
            case Action.OPEN:
                self.open_asked.emit(row.folder or "")
            case Action.GET | Action.RESUME:
                self._models.fetch(row.key)
            case Action.PAUSE:
                self._models.pause(row.key)
            case Action.CANCEL:
                self._models.cancel(row.key)

    # What is shown

    def _row(self) -> ModelRow | None:
        return self._models.row(self._selected)

    def _show_rows(self) -> None:
        self._select(self._selected)
        self._widen_columns()

    def _show_row(self, key: str) -> None:
        self._widen_columns()
        if key == self._selected:
            self._show_details()

    def _show_details(self) -> None:
        self._details.show_row(self._row(), self._models.group_size, self._models.can_fetch)

    def _select(self, key: str) -> None:
        """Select the row with this key, or the first."""
        rows = self._view.model()
        for line in range(rows.rowCount()):
            index = rows.index(line, 0)
            if index.data(KEY_ROLE) == key:
                break
        else:
            index = rows.index(0, 0)
        flags = QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows
        self._view.selectionModel().setCurrentIndex(index, flags)
        self._take_selection()

    def _widen_columns(self) -> None:
        """Give every figure room, and the name what is left; what the person has widened stays."""
        header = self._view.horizontalHeader()
        for column in range(1, header.count()):
            needed = max(self._view.sizeHintForColumn(column), header.sectionSizeHint(column))
            if header.sectionSize(column) < needed or not self._is_fitted:
                header.resizeSection(column, needed)
        self._is_fitted = True


def _button(name: str, text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(name)
    button.setAccessibleName(text.rstrip("…"))
    button.setToolTip(tooltip)
    button.setAccessibleDescription(tooltip)
    button.setAutoDefault(False)
    return button
