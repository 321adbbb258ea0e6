import csv
import dataclasses
import json
import re
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from app import __version__
from app.chat.figures import CacheFigures, LayerNote, MachineFacts, MemoryFigures, ReplyFigures
from app.chat.options import CacheMode
from app.errors import NibbleError
from app.stats.export import COLUMNS, MACHINE_COLUMNS, MARKDOWN_COLUMNS, export_rows
from app.stats.session import Row, Session

FIGURES = ReplyFigures(
    model="starter",
    started_at="2026-11-23T10:00:00+00:00",
    requested_mode=CacheMode.INT4,
    cache=CacheFigures(
        mode=CacheMode.FP16,
        group_size=32,
        path="cpu, plain MLX",
        tokens=41,
        used_bytes=1000,
        allocated_bytes=2000,
        fp16_used_bytes=3600,
        fp16_allocated_bytes=7100,
        layers_int4=5,
        layers_total=8,
        notes=(LayerNote((2, 3), "no keys"), LayerNote((7,), "head size 30")),
    ),
    memory=MemoryFigures(11, 12, 13, 14, "as counted"),
    prompt_tokens=20,
    reused_tokens=5,
    prefilled_tokens=15,
    generated_tokens=21,
    ttft_s=0.1 + 0.2,
    prefill_tokens_per_s=60.25,
    decode_tokens_per_s=30.5,
    elapsed_s=1.125,
    context_limit_tokens=1024,
    seed=2**31 - 1,
    temperature=0.7,
    top_p=0.9,
    top_k=40,
    min_p=0.05,
    max_tokens=512,
    finish_reason="stop",
)
MACHINE = MachineFacts(
    machine="Apple M2",
    memory_bytes=2**34,
    os="macOS 15.1",
    device="gpu",
    backend="metal",
    nibble_version="0.1.0",
    python_version="3.11.2",
    mlx_version="0.32.4",
    mlx_lm_version="0.32.2",
)
ROW = Row('Tulips, "red"\nand ü 🙂', FIGURES)

UNITS = ("_bytes", "_tokens", "_tokens_per_s", "_s", "_ratio", "_layers", "_values")
PLAIN_NUMBERS = {"seed", "temperature", "top_p", "min_p"}


def leaves(cls: Any, prefix: str) -> set[str]:
    """The dotted paths of all values in a dataclass, those of dataclasses in it included."""
    found = set()
    for name, hint in typing.get_type_hints(cls).items():
        path = f"{prefix}{name}"
        found |= leaves(hint, f"{path}.") if dataclasses.is_dataclass(hint) else {path}
    return found


def value_at(owner: Any, source: str) -> Any:
    for name in source.split("."):
        owner = getattr(owner, name)
    return owner


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_every_figure_has_a_column() -> None:
    told_by_row = {"figures.cache.group_size": "group_size", "figures.cache.notes": "fp16_layer_reasons"}
    assert {told_by_row.get(leaf, leaf) for leaf in leaves(Row, "")} <= {c.source for c in COLUMNS}
    assert leaves(MachineFacts, "") == {c.source for c in MACHINE_COLUMNS}
    assert "figures.cache.ratio" in {c.source for c in COLUMNS}


def test_every_column_is_named_once_and_explained() -> None:
    columns = (*COLUMNS, *MACHINE_COLUMNS)
    assert len({c.name for c in columns}) == len(columns)
    for column in columns:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", column.name)
        assert column.description.endswith(".")


def test_every_number_has_its_unit_in_its_name() -> None:
    for owner, columns in ((ROW, COLUMNS), (MACHINE, MACHINE_COLUMNS)):
        for column in columns:
            if type(value_at(owner, column.source)) in (int, float) and column.name not in PLAIN_NUMBERS:
                assert column.name.endswith(UNITS), column.name


def test_csv_holds_every_figure_exactly(tmp_path: Path) -> None:
    path = tmp_path / "figures.csv"
    export_rows(path, [ROW, Row("Second", dataclasses.replace(FIGURES, seed=3))], MACHINE)
    first, second = read_csv(path)
    assert list(first) == [c.name for c in (*COLUMNS, *MACHINE_COLUMNS)]
    for owner, columns in ((ROW, COLUMNS), (MACHINE, MACHINE_COLUMNS)):
        for column in columns:
            value = value_at(owner, column.source)
            if value is not None:
                expected = value.value if isinstance(value, Enum) else value
                assert type(expected)(first[column.name]) == expected, column.name
    assert first["fp16_layer_reasons"] == "2, 3: no keys; 7: head size 30"
    assert first["kv_saving_ratio"] == "3.55"
    assert (first["requested_mode"], first["effective_mode"]) == ("int4", "fp16")
    assert (second["chat_title"], second["seed"]) == ("Second", "3")


def test_an_fp16_cache_has_no_group_size_and_a_reason(tmp_path: Path) -> None:
    int4 = dataclasses.replace(FIGURES, cache=dataclasses.replace(FIGURES.cache, mode=CacheMode.INT4, notes=()))
    asked = dataclasses.replace(
        FIGURES, requested_mode=CacheMode.FP16, cache=dataclasses.replace(FIGURES.cache, layers_int4=0, notes=())
    )
    rows = [Row("int4", int4), Row("fp16", asked), ROW]
    for name in ("a.csv", "a.json"):
        export_rows(tmp_path / name, rows, MACHINE)
    cells = [(line["group_size_values"], line["fp16_layer_reasons"]) for line in read_csv(tmp_path / "a.csv")]
    assert cells == [("32", ""), ("", "fp16 was asked for"), ("", "2, 3: no keys; 7: head size 30")]
    replies = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["replies"]
    assert [reply["group_size_values"] for reply in replies] == [32, None, None]


def test_csv_is_what_spreadsheets_expect(tmp_path: Path) -> None:
    path = tmp_path / "figures.csv"
    export_rows(path, [ROW], MACHINE)
    content = path.read_bytes()
    assert content.startswith(b"chat_title,model,")
    assert content.endswith(b"\r\n")
    assert "ü 🙂".encode() in content


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_csv_text_cannot_become_a_formula(tmp_path: Path, start: str) -> None:
    path = tmp_path / "figures.csv"
    text = start + 'HYPERLINK("http://x","y")'
    figures = dataclasses.replace(FIGURES, model=text, temperature=-1.0)
    export_rows(path, [Row(text, figures)], dataclasses.replace(MACHINE, machine=text))
    (line,) = read_csv(path)
    assert line["chat_title"] == line["model"] == line["machine"] == f"'{text}"
    assert line["temperature"] == "-1.0", "numbers stay numbers"


def test_json_is_complete_and_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    export_rows(path, [ROW, ROW], MACHINE)
    text = path.read_text(encoding="utf-8")
    data = json.loads(text)
    assert list(data) == ["nibble", "exported_at", "machine", "columns", "replies", "comparisons"]
    assert data["nibble"] == __version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", data["exported_at"])
    assert data["machine"] == {c.name: value_at(MACHINE, c.source) for c in MACHINE_COLUMNS}
    assert data["columns"] == {c.name: c.description for c in (*COLUMNS, *MACHINE_COLUMNS)}
    assert len(data["replies"]) == 2
    for column in COLUMNS:
        assert data["replies"][0][column.name] == value_at(ROW, column.source), column.name
    assert data["replies"][0]["fp16_layer_reasons"] == "2, 3: no keys; 7: head size 30"
    assert "ü 🙂" in text, "readable without a program"


def test_json_leaves_text_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    export_rows(path, [Row("=1+1", FIGURES)], MACHINE)
    assert json.loads(path.read_text(encoding="utf-8"))["replies"][0]["chat_title"] == "=1+1"


def test_markdown_is_a_table_with_its_conditions(tmp_path: Path) -> None:
    path = tmp_path / "figures.md"
    export_rows(path, [ROW, Row("a | b \\ <c>", FIGURES)], MACHINE)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Nibble session stats"
    assert lines[2] == f"| {' | '.join(MARKDOWN_COLUMNS)} |"
    assert lines[3].startswith("| --- | --- | --- | --- | ---: | ---: |")
    assert lines[4].startswith(
        '| Tulips, "red" and ü 🙂 | starter | 2026-11-23T10:00:00+00:00 | fp16 | 41 | 2000 | 7100 |'
    )
    assert "| 0.3 | 60.25 | 30.5 | stop |" in lines[4]
    assert lines[5].startswith("| a \\| b \\\\ &lt;c> |")
    assert "- machine: Apple M2" in lines
    assert {c.name for c in COLUMNS} >= set(MARKDOWN_COLUMNS)
    assert "- kv_saving_ratio: kv_fp16_allocated_bytes over kv_allocated_bytes." in lines


def test_a_session_without_replies_exports_the_names_alone(tmp_path: Path) -> None:
    export_rows(tmp_path / "a.CSV", [], MACHINE)
    export_rows(tmp_path / "a.Json", [], MACHINE)
    assert len((tmp_path / "a.CSV").read_text(encoding="utf-8").splitlines()) == 1
    assert json.loads((tmp_path / "a.Json").read_text(encoding="utf-8"))["replies"] == []


@pytest.mark.parametrize("name", ["figures.xlsx", "figures", "figures.csv.bak"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NibbleError, match="cannot be exported") as caught:
        export_rows(tmp_path / name, [ROW], MACHINE)
    assert ".csv, .json or .md" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(NibbleError, match="could not be written"):
        export_rows(tmp_path / "missing" / "figures.csv", [ROW], MACHINE)


def test_an_old_export_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    export_rows(path, [ROW] * 50, MACHINE)
    export_rows(path, [ROW], MACHINE)
    assert len(json.loads(path.read_text(encoding="utf-8"))["replies"]) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_session_keeps_replies_in_order() -> None:
    session = Session()
    assert session.rows() == ()
    other = Row("Other", FIGURES)
    session.add(ROW)
    held = session.rows()
    session.add(other)
    assert session.rows() == (ROW, other)
    assert held == (ROW,), "what was handed out does not change"
