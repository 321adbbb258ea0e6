"""The list of models as a table that can be sorted by any column."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from app.chat.options import CacheMode
from app.viewmodels import model_rows
from app.viewmodels.model_list import ModelList
from app.viewmodels.model_rows import ModelRow
from app.viewmodels.panel_state import UNMEASURED
from app.viewmodels.plain_tooltip import plain_tooltip

SORT_ROLE = int(Qt.ItemDataRole.UserRole)
"""What a column is sorted by: a number, or text in lower case."""
KEY_ROLE = SORT_ROLE + 1
"""The row's key."""
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_ROOT = QModelIndex()


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    tooltip: str
    shown: Callable[[ModelRow, int], str]
    """By row and group size."""
    key: Callable[[ModelRow, int], str | float]
    said: Callable[[ModelRow, int], str]
    """The cell's tooltip."""
    is_figure: bool = True


def _longest(mode: CacheMode) -> _Column:
    return _Column(
        f"Longest, {mode.value}",
        f"Most tokens of one chat that fit in memory with a cache in {mode.value}, never more than the model reads.",
        lambda r, g: model_rows.longest_text(r, mode, g),
        lambda r, g: -1 if (longest := r.longest(mode, g)) is None else longest,
        lambda r, g: model_rows.longest_tooltip(r, mode, g),
    )


_COLUMNS = (
    _Column(
        "Model",
        "Name of the model.",
        lambda r, _: r.name,
        lambda r, _: r.name.casefold(),
        lambda r, _: "\n".join(filter(None, (r.repo or r.folder or "The embedded starter", r.sources))),
        is_figure=False,
    ),
    _Column(
        "Size",
        "Bytes to fetch, or of the weights on this machine.",
        lambda r, _: model_rows.size_text(r),
        lambda r, _: r.download_bytes or -1,
        lambda r, _: model_rows.size_tooltip(r),
    ),
    _Column(
        "Licence",
        "As the model's page names it.",
        lambda r, _: r.licence or UNMEASURED,
        lambda r, _: r.licence,
        lambda r, _: f"{r.licence}, as the model's page or README says" if r.licence else "Its folder does not say.",
        is_figure=False,
    ),
    _Column(
        "Context",
        "Most tokens that the model reads, by its config.json.",
        lambda r, _: model_rows.context_text(r),
        lambda r, _: r.limit_tokens or -1,
        lambda r, _: "Most tokens that the model reads, by its config.json.",
    ),
    _Column(
        "Fits",
        "Whether a chat of some length fits in this machine's memory.",
        lambda r, g: model_rows.fit_text(r, g),
        lambda r, g: model_rows.fit_text(r, g),
        lambda r, _: model_rows.fit_tooltip(r),
        is_figure=False,
    ),
    _longest(CacheMode.INT4),
    _longest(CacheMode.FP16),
    _Column(
        "State",
        "Whether it is on this machine, and how far it is fetched.",
        lambda r, _: model_rows.state_text(r),
        lambda r, _: model_rows.state_text(r),
        lambda r, _: model_rows.state_tooltip(r),
        is_figure=False,
    ),
)
HEADINGS = tuple(column.heading for column in _COLUMNS)


class ModelTable(QAbstractTableModel):
    """One line a model."""

    def __init__(self, models: ModelList, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._models = models
        self._keys: list[str] = []
        models.changed.connect(self._reset)
        models.row_changed.connect(self._change)
        self._reset()

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        """Return how many models there are."""
        return 0 if parent.isValid() else len(self._keys)

    def columnCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        """Return how many columns there are."""
        return 0 if parent.isValid() else len(_COLUMNS)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell's text, what it is sorted by, where it stands, and its words."""
        column, row = _COLUMNS[index.column()], self._models.row(self._keys[index.row()])
        if row is None:
            return None
        group_size = self._models.group_size
        if role == Qt.ItemDataRole.DisplayRole:
            return column.shown(row, group_size)
        if role == SORT_ROLE:
            key = column.key(row, group_size)
            # Qt compares by the type of one side: beside an int of 32 bits a larger one would be cut to that.
            return float(key) if isinstance(key, int) else key
        if role == KEY_ROLE:
            return row.key
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _RIGHT if column.is_figure else _LEFT
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tooltip(column.said(row, group_size))
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{column.heading}: {column.shown(row, group_size)}"
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a column's heading, and what it says."""
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return _COLUMNS[section].heading
        if role == Qt.ItemDataRole.ToolTipRole:
            return _COLUMNS[section].tooltip
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _RIGHT if _COLUMNS[section].is_figure else _LEFT
        return None

    def _reset(self) -> None:
        self.beginResetModel()
        self._keys = [row.key for row in self._models.rows]
        self.endResetModel()

    def _change(self, key: str) -> None:
        if key in self._keys:
            line = self._keys.index(key)
            self.dataChanged.emit(self.index(line, 0), self.index(line, len(_COLUMNS) - 1))
