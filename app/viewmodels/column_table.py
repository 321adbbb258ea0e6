"""A Qt table of rows that is told by a list of columns what to show, to sort by and to say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from app.viewmodels.plain_tooltip import plain_tooltip

RowT = TypeVar("RowT")
SORT_ROLE = int(Qt.ItemDataRole.UserRole)
"""What a column is sorted by: a number, or text in lower case."""
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_ROOT = QModelIndex()


@dataclass(frozen=True, slots=True)
class Column(Generic[RowT]):
    """What a column shows of a row."""

    heading: str
    tooltip: str
    """What the column is."""
    text: Callable[[RowT], str]
    sort_value: Callable[[RowT], str | float]
    cell_tooltip: Callable[[RowT], str] | None = None
    """Shown as it is written, never as HTML; without it a cell has the column's tooltip."""
    is_figure: bool = True
    """Figures stand at the right, words at the left."""

    @property
    def alignment(self) -> Qt.AlignmentFlag:
        """Where heading and cells stand."""
        return _RIGHT if self.is_figure else _LEFT


class ColumnTable(QAbstractTableModel, Generic[RowT]):
    """One line a row."""

    def __init__(self, columns: Sequence[Column[RowT]], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._columns = columns
        self._rows: list[RowT] = []

    def set_rows(self, rows: Sequence[RowT]) -> None:
        """Show other rows."""
        self.beginResetModel()
        self._rows = list(rows)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        """Return the number of rows."""
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        """Return the number of columns."""
        return 0 if parent.isValid() else len(self._columns)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell's text, what it is sorted by, where it stands, and its words."""
        if not index.isValid():
            return None
        row, column = self._rows[index.row()], self._columns[index.column()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return column.text(row)
            case Qt.ItemDataRole.ToolTipRole:
                return plain_tooltip(column.cell_tooltip(row)) if column.cell_tooltip else column.tooltip
            case Qt.ItemDataRole.TextAlignmentRole:
                return column.alignment
            case Qt.ItemDataRole.AccessibleTextRole:
                return f"{column.heading}: {column.text(row)}"
            case _ if role == SORT_ROLE:
                value = column.sort_value(row)
                # Qt compares by the type of one side: beside an int of 32 bits a larger one would be cut to that.
                return float(value) if isinstance(value, int) else value
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a column's heading, what the column is, and where it stands."""
        if orientation is not Qt.Orientation.Horizontal:
            return None
        column = self._columns[section]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return column.heading
            case Qt.ItemDataRole.ToolTipRole:
                return column.tooltip
            case Qt.ItemDataRole.TextAlignmentRole:
                return column.alignment
        return None
