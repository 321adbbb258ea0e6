from dataclasses import replace

import pytest
from PySide6.QtCore import QSortFilterProxyModel, Qt

from app.chat.quality import csv_text, json_text
from app.errors import NibbleError
from app.viewmodels.column_table import SORT_ROLE
from app.viewmodels.quality_table import (
    IN_USE_ROLE,
    QualityTable,
    conditions_text,
    export_report,
    headline,
    layers_text,
    markdown_table,
)
from tests.quality_parts import REASON, REPORT

HEADINGS = ["Cache", "Bits", "Perplexity", "KL, nats", "Same first token", "What it is"]


@pytest.fixture
def table(qapp):
    table = QualityTable(32)
    table.set_report(REPORT)
    return table


def row(model, number: int) -> list[str]:
    return [model.index(number, column).data() for column in range(model.columnCount())]


def test_a_row_is_a_cache_with_its_figures_and_their_spread(table):
    headings = [table.headerData(i, Qt.Orientation.Horizontal) for i in range(table.columnCount())]
    assert headings == HEADINGS
    assert table.rowCount() == 4
    assert row(table, 0)[:2] == ["fp16", "16.00"]
    assert row(table, 1) == [
        "plain int4",
        "4.12",
        "15.979",
        "0.4000 (0.3000–0.5000)",
        "70.0% (70.0–70.0)",
        "what plain int4 is",
    ]


def test_the_row_in_use_says_so_in_words(table):
    in_use = [table.index(i, 0).data(IN_USE_ROLE) for i in range(4)]
    assert in_use == [False, False, True, False]
    assert table.index(2, 0).data() == "ours g32 (in use)"
    assert "This chat's int4 cache: groups of 32." in table.index(2, 3).data(Qt.ItemDataRole.ToolTipRole)
    other = QualityTable(64)
    other.set_report(REPORT)
    assert [other.index(i, 0).data() for i in (2, 3)] == ["ours g32", "ours g64 (in use)"]


@pytest.mark.parametrize(
    ("column", "first"), [(0, "fp16"), (1, "plain int4"), (3, "fp16"), (4, "plain int4"), (5, "fp16")]
)
def test_columns_are_sorted_by_their_figures(table, column, first):
    rows = QSortFilterProxyModel()
    rows.setSourceModel(table)
    rows.setSortRole(SORT_ROLE)
    rows.sort(column)
    assert row(rows, 0)[0] == first
    if column == 3:
        assert [row(rows, i)[0] for i in (1, 2, 3)] == ["ours g32 (in use)", "ours g64", "plain int4"]


def test_every_column_says_what_it_is_and_how_it_is_measured(table):
    tooltips = [
        table.headerData(i, Qt.Orientation.Horizontal, Qt.ItemDataRole.ToolTipRole) for i in range(table.columnCount())
    ]
    assert len(set(tooltips)) == len(HEADINGS)
    for word in ("Bits a value", "exp of the mean", "KL(fp16 || this cache)", "likeliest next token"):
        assert any(word in tooltip for tooltip in tooltips)
    for column, tooltip in enumerate(tooltips):
        assert tooltip in table.index(1, column).data(Qt.ItemDataRole.ToolTipRole)
    assert "15.000 to 17.000 (min to max)" in table.index(1, 2).data(Qt.ItemDataRole.ToolTipRole)


def test_the_report_in_words():
    assert headline(REPORT, 64) == (
        "int4 agrees with fp16 on the likeliest next token 85.0% of the time, at 4.25 bits a value in place of 16."
    )
    assert headline(replace(REPORT, variants=REPORT.variants[:2]), 32) == "Measured."
    assert layers_text(REPORT).splitlines() == ["int4 in 35 of 36 layers.", *REPORT.remarks]
    whole = replace(REPORT, model=replace(REPORT.model, int4_layers=36), remarks=())
    assert layers_text(whole) == "int4 in 36 of 36 layers. None is kept in fp16."
    assert "3 windows of 1,024 tokens, the last 512 of each scored" in conditions_text(REPORT)
    assert "In brackets" not in conditions_text(replace(REPORT, windows=1))


def test_markdown_has_the_table_its_conditions_and_the_layers_in_fp16():
    lines = markdown_table(REPORT, 32).splitlines()
    assert lines[0] == f"| {' | '.join(HEADINGS)} |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | --- |"
    assert lines[4].startswith("| ours g32 (in use) | 4.50 |")
    assert lines[6] == ""
    assert f"- fp16 in ours, layers 3: {REASON}." in lines
    assert "Apple M4" in lines[-1]


def test_files_are_those_of_the_command(tmp_path):
    for name, expected in (("a.csv", csv_text([REPORT])), ("a.JSON", json_text([REPORT]))):
        export_report(tmp_path / name, REPORT)
        assert (tmp_path / name).read_bytes().decode() == expected
    with pytest.raises(NibbleError, match=r"cannot be exported as \.xls"):
        export_report(tmp_path / "a.xls", REPORT)
    with pytest.raises(NibbleError, match="could not be written"):
        export_report(tmp_path / "none" / "a.csv", REPORT)
