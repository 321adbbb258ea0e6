"""A table of figures: sorted by what they are and not by their text, columns kept apart, no grid."""

from typing import Any

from PySide6.QtCore import QLocale, QSortFilterProxyModel, Qt
from PySide6.QtWidgets import QHeaderView, QStyledItemDelegate, QTableView, QWidget

from app.ui.scroll_bar import quieten
from app.ui.theme import GAP, TIGHT, figure_font
from app.viewmodels.column_table import SORT_ROLE, ColumnTable

_SPACE = "\N{EN SPACE}"


class SortedRows(QSortFilterProxyModel):
    """Sorts, and keeps headings apart."""

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a heading between spaces."""
        found = super().headerData(section, orientation, role)
        return f"{_SPACE}{found}{_SPACE}" if role == Qt.ItemDataRole.DisplayRole else found


class CellPainter(QStyledItemDelegate):
    """Keeps columns apart."""

    def displayText(self, value: Any, locale: QLocale | QLocale.Language) -> str:
        """Return a cell's text between spaces."""
        return f"{_SPACE}{super().displayText(value, locale)}{_SPACE}"


def figure_table(table: ColumnTable[Any], parent: QWidget) -> QTableView:
    """Return a view of `table` that a click on a heading sorts by its column; a third click takes the order back."""
    rows = SortedRows(parent)
    rows.setSourceModel(table)
    rows.setSortRole(SORT_ROLE)
    view = QTableView()
    view.setModel(rows)
    view.setItemDelegate(CellPainter(view))
    view.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
    view.setSelectionMode(QTableView.SelectionMode.SingleSelection)
    view.setAlternatingRowColors(True)
    view.setShowGrid(False)
    view.setWordWrap(False)
    view.setTabKeyNavigation(False)
    view.setFont(figure_font(view.font()))
    view.verticalHeader().hide()
    view.verticalHeader().setDefaultSectionSize(view.fontMetrics().height() + GAP + TIGHT)
    quieten(view)
    header = view.horizontalHeader()
    header.setMinimumHeight(view.fontMetrics().height() + GAP)
    header.setHighlightSections(False)
    header.setSortIndicatorClearable(True)
    header.setStretchLastSection(True)
    header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
    view.setSortingEnabled(True)
    return view
