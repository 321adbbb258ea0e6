from dataclasses import replace

import pytest
from PySide6.QtCore import QSortFilterProxyModel, Qt

from app.chat.options import CacheMode
from app.stats.session import Row
from app.viewmodels.column_table import SORT_ROLE
from app.viewmodels.stats_table import HEADINGS, StatsTable, summary
from tests.chat_parts import FIGURES


def row(tokens, speed, title="Chat", mode=CacheMode.INT4, **changes):
    cache = replace(FIGURES.cache, tokens=tokens, mode=mode)
    if mode is CacheMode.FP16:
        cache = replace(cache, allocated_bytes=cache.fp16_allocated_bytes)
    return Row(title, replace(FIGURES, cache=cache, decode_tokens_per_s=speed, **changes))


ROWS = (row(900, 41.25), row(1_000, 9.5, "second"), row(80, 0.0, "Third", CacheMode.FP16))


@pytest.fixture
def table(qtmodeltester, qapp):
    table = StatsTable()
    table.set_rows(ROWS)
    qtmodeltester.check(table)
    return table


def column(model, heading, role=Qt.ItemDataRole.DisplayRole):
    at = HEADINGS.index(heading)
    return [model.index(i, at).data(role) for i in range(model.rowCount())]


def test_cells_are_shown_as_people_write_them_and_the_unmeasured_as_a_dash(table):
    assert column(table, "Context") == ["900", "1,000", "80"]
    assert column(table, "Decode, tok/s") == ["41.2", "9.5", "–"]
    assert column(table, "KV memory") == ["3.60 MB", "3.60 MB", "12.8 MB"]
    assert column(table, "Ratio") == ["3.56x", "3.56x", "1.00x"]
    assert column(table, "Cache") == ["int4", "int4", "fp16"]


@pytest.mark.parametrize(
    ("heading", "order"),
    [
        ("Context", ["80", "900", "1,000"]),
        ("Decode, tok/s", ["–", "9.5", "41.2"]),
        ("Chat", ["Chat", "second", "Third"]),
    ],
)
def test_columns_are_sorted_by_what_they_are_and_not_by_their_text(table, heading, order):
    rows = QSortFilterProxyModel()
    rows.setSourceModel(table)
    rows.setSortRole(SORT_ROLE)
    rows.sort(HEADINGS.index(heading))
    assert column(rows, heading) == order


def test_figures_beyond_32_bits_are_sorted_as_such(table):
    sizes = (5_000_000_000, 1_000_000_000, 3_000_000_000)
    table.set_rows(
        [
            replace(r, figures=replace(r.figures, memory=replace(r.figures.memory, peak_bytes=s)))
            for r, s in zip(ROWS, sizes, strict=True)
        ]
    )
    rows = QSortFilterProxyModel()
    rows.setSourceModel(table)
    rows.setSortRole(SORT_ROLE)
    rows.sort(HEADINGS.index("Peak memory"))
    assert column(rows, "Peak memory") == ["1.00 GB", "3.00 GB", "5.00 GB"]


def test_every_column_explains_itself(table):
    tips = [table.headerData(i, Qt.Orientation.Horizontal, Qt.ItemDataRole.ToolTipRole) for i in range(len(HEADINGS))]
    assert all(len(tip) > 15 and tip.endswith(".") for tip in tips)
    assert column(table, "Context", Qt.ItemDataRole.ToolTipRole)[0] == tips[HEADINGS.index("Context")]
    assert column(table, "Chat", Qt.ItemDataRole.ToolTipRole)[2].startswith("Third\n")
    assert column(table, "Ratio", Qt.ItemDataRole.AccessibleTextRole)[0] == "Ratio: 3.56x"


def test_more_replies_are_inserted_and_others_replace(table, qtbot):
    with qtbot.waitSignal(table.rowsInserted), qtbot.assertNotEmitted(table.modelReset):
        table.set_rows((*ROWS, row(5, 1.0)))
    with qtbot.waitSignal(table.modelReset):
        table.set_rows(ROWS[:1])
    with qtbot.assertNotEmitted(table.modelReset):
        table.set_rows(ROWS[:1])
    assert table.rowCount() == 1


def test_a_time_that_is_none_is_shown_as_it_stands(table):
    table.set_rows([row(1, 1.0, started_at="yesterday")])
    assert column(table, "Time") == ["yesterday"]


def test_the_session_in_a_sentence():
    assert summary(()) == ""
    assert summary(ROWS) == "3 replies: 2 in int4 (median 25.4 tokens/s, ratio 3.56x); 1 in fp16."
    assert summary(ROWS[:1]).startswith("1 reply: 1 in int4")
