import pytest
from PySide6.QtCore import QModelIndex, QSortFilterProxyModel, Qt

from app.viewmodels.column_table import SORT_ROLE, Column, ColumnTable

COLUMNS = (
    Column("Word", "What it is called.", lambda r: r[0], lambda r: r[0].casefold(), lambda r: r[0], is_figure=False),
    Column("Bytes", "How large it is.", lambda r: f"{r[1]:,}", lambda r: r[1]),
)
ROWS = (("<b>one</b>", 5_000_000_000), ("Two", 900), ("three", 1_000))
ROLES = Qt.ItemDataRole


@pytest.fixture
def table(qapp, qtmodeltester):
    table = ColumnTable(COLUMNS)
    table.set_rows(ROWS)
    qtmodeltester.check(table)
    return table


def test_a_cell_is_what_its_column_says_of_the_row(table):
    assert [table.index(1, c).data() for c in (0, 1)] == ["Two", "900"]
    assert [table.index(1, c).data(ROLES.AccessibleTextRole) for c in (0, 1)] == ["Word: Two", "Bytes: 900"]
    assert table.data(QModelIndex()) is None


def test_a_tooltip_is_the_cells_own_as_it_is_written_or_the_columns(table):
    tooltips = [table.index(0, c).data(ROLES.ToolTipRole) for c in (0, 1)]
    assert tooltips == ["<span>&lt;b&gt;one&lt;/b&gt;</span>", "How large it is."]


def test_headings_stand_over_their_cells_and_say_what_the_column_is(table):
    across = Qt.Orientation.Horizontal
    assert [table.headerData(c, across) for c in (0, 1)] == ["Word", "Bytes"]
    assert [table.headerData(c, across, ROLES.ToolTipRole) for c in (0, 1)] == [c.tooltip for c in COLUMNS]
    for column, side in ((0, Qt.AlignmentFlag.AlignLeft), (1, Qt.AlignmentFlag.AlignRight)):
        alignments = [table.headerData(column, across, ROLES.TextAlignmentRole)]
        alignments += [table.index(line, column).data(ROLES.TextAlignmentRole) for line in range(3)]
        assert all(Qt.AlignmentFlag(alignment) & side for alignment in alignments)
    assert table.headerData(0, Qt.Orientation.Vertical) is None


@pytest.mark.parametrize(("column", "order"), [(0, [0, 2, 1]), (1, [1, 2, 0])])
def test_columns_are_sorted_by_what_they_are_also_beyond_32_bits(table, column, order):
    rows = QSortFilterProxyModel()
    rows.setSourceModel(table)
    rows.setSortRole(SORT_ROLE)
    rows.sort(column)
    assert [rows.mapToSource(rows.index(line, 0)).row() for line in range(3)] == order
