from datetime import UTC, datetime

import pytest

from app.errors import NibbleError
from app.stats.history import SessionHistory
from app.stats.session import Row
from app.viewmodels.session_stats import THIS_SESSION, SessionStats
from tests.chat_parts import FIGURES, ScriptedEngine
from tests.stats.test_export import MACHINE


@pytest.fixture
def engine(qapp):
    engine = ScriptedEngine()
    engine.machine = MACHINE
    return engine


def kept_earlier(folder):
    history = SessionHistory(folder, lambda: datetime(2026, 11, 26, 12, tzinfo=UTC))
    history.append(Row("Yesterday", FIGURES), MACHINE)
    return folder / "20261126-120000.jsonl"


def test_replies_are_kept_and_found_again_by_the_next_session(engine, tmp_path):
    first = SessionStats(engine, SessionHistory(tmp_path))
    first.add("Chat", FIGURES)
    assert [choice.label for choice in first.choices()] == ["This session"]
    second = SessionStats(engine, SessionHistory(tmp_path))
    this, earlier = second.choices()
    assert (this.name, second.session(this.name).rows) == (THIS_SESSION, ())
    assert str(datetime.now().astimezone().year) in earlier.label
    found = second.session(earlier.name)
    assert found.rows == (Row("Chat", FIGURES),)
    assert found.machine == MACHINE


def test_an_earlier_session_is_exported_with_its_own_machine(engine, tmp_path):
    kept_earlier(tmp_path)
    engine.machine = None
    stats = SessionStats(engine, SessionHistory(tmp_path))
    target = tmp_path / "out.md"
    stats.export_session(target, stats.session(stats.choices()[1].name))
    assert "| Yesterday |" in target.read_text(encoding="utf-8")
    with pytest.raises(NibbleError, match="not started"):
        stats.export(target)


def test_what_of_a_session_is_broken_is_said(engine, tmp_path):
    path = kept_earlier(tmp_path)
    path.write_text(path.read_text() + "{}\n")
    stats = SessionStats(engine, SessionHistory(tmp_path))
    found = stats.session(stats.choices()[1].name)
    assert len(found.rows) == 1
    assert "1 of 2 replies" in found.notice


def test_a_session_that_cannot_be_kept_is_said_once_and_still_shown(engine, tmp_path):
    (tmp_path / "file").write_text("")
    stats = SessionStats(engine, SessionHistory(tmp_path / "file"))
    said = []
    stats.failed.connect(lambda *what: said.append(what))
    for _ in range(3):
        stats.add("Chat", FIGURES)
    assert len(said) == 1
    assert "cannot be kept" in said[0][0]
    assert len(stats.rows) == 3
    assert len(stats.choices()) == 1
