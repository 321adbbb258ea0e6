import json
from dataclasses import replace

import pytest

from app.chat.comparison import Comparison, KeptComparison, Round
from app.errors import NibbleError
from app.store import comparisons
from app.store.comparisons import ComparisonFile
from tests.chat_parts import FIGURES

KEPT = KeptComparison(
    conversation_id=1,
    made_at="2026-11-27T10:00:00+00:00",
    prompt="Tell me\n a story – 🦊",
    conditions="Always the likeliest token.",
    fp16_text="Once upon",
    int4_text="Once a\u2028line",
    comparison=Comparison(1, 5, 0.5),
    rounds=(Round(FIGURES, FIGURES), Round(replace(FIGURES, ttft_s=0.5), FIGURES)),
)


@pytest.fixture
def file(tmp_path):
    return ComparisonFile(tmp_path / "comparisons.jsonl")


def test_what_is_added_comes_back_with_its_conversation_in_order(file, tmp_path):
    assert file.of_conversation(1) == []
    other = replace(KEPT, conversation_id=2)
    later = replace(KEPT, prompt="Another", comparison=Comparison(None, None, 1.0))
    for kept in (KEPT, other, later):
        file.add(kept)
    assert ComparisonFile(tmp_path / "comparisons.jsonl").of_conversation(1) == [KEPT, later]
    assert file.of_conversation(2) == [other]


@pytest.mark.parametrize("line", ["", "no JSON", "{}", "[" * 5000, '{"conversation_id": 1}'])
def test_a_spoiled_line_hides_no_other_and_is_kept(file, tmp_path, line, caplog):
    path = tmp_path / "comparisons.jsonl"
    file.add(KEPT)
    with path.open("a") as text:
        text.write(f"{line}\n")
    file.add(KEPT)
    assert file.of_conversation(1) == [KEPT, KEPT]
    file.prune({7})
    assert path.read_text() == (f"{line}\n" if line else "")
    assert bool(caplog.records) == bool(line)


def test_a_line_without_rounds_is_spoiled(file, tmp_path):
    file.add(replace(KEPT, rounds=()))
    assert file.of_conversation(1) == []


def test_pruning_drops_what_belongs_to_conversations_that_are_gone(file, tmp_path):
    path = tmp_path / "comparisons.jsonl"
    file.prune(set())
    assert not path.exists()
    for number in (1, 2, 3):
        file.add(replace(KEPT, conversation_id=number))
    before = path.stat().st_mtime_ns
    file.prune({1, 2, 3, 9})
    assert path.stat().st_mtime_ns == before
    file.prune({1, 3})
    assert [json.loads(line)["conversation_id"] for line in path.read_text().splitlines()] == [1, 3]


def test_a_disk_in_the_way_is_told(tmp_path):
    file = ComparisonFile(tmp_path)
    with pytest.raises(NibbleError, match="could not be kept"):
        file.add(KEPT)
    with pytest.raises(NibbleError, match="could not be read"):
        file.of_conversation(1)


def test_of_very_many_the_oldest_go_and_what_cannot_be_read_stays(file, tmp_path, monkeypatch):
    path = tmp_path / "comparisons.jsonl"
    path.write_text("no JSON\n")
    for number in range(1, 6):
        file.add(replace(KEPT, conversation_id=number))
    size = len(path.read_text().splitlines()[-1].encode())
    monkeypatch.setattr(comparisons, "MOST_COMPARISONS", 4)
    file.prune({1, 2, 3, 4, 5})
    first, *rest = path.read_text().splitlines()
    assert first == "no JSON"
    assert [json.loads(line)["conversation_id"] for line in rest] == [2, 3, 4, 5]
    monkeypatch.setattr(comparisons, "MOST_BYTES", 2 * size)
    file.prune({1, 2, 3, 4, 5})
    first, *rest = path.read_text().splitlines()
    assert first == "no JSON"
    assert [json.loads(line)["conversation_id"] for line in rest] == [4, 5]
