import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.errors import NibbleError
from app.stats import history
from app.stats.history import SessionHistory
from app.stats.session import Row
from tests.stats.test_export import FIGURES, MACHINE, ROW

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 27, 8, 30, 5, tzinfo=UTC)
SECOND = Row("line\u2028separator", dataclasses.replace(FIGURES, seed=3))


def kept(folder: Path, *rows: Row, at: datetime = NOON) -> Path:
    history = SessionHistory(folder, lambda: at)
    for row in rows:
        history.append(row, MACHINE)
    (path,) = folder.glob(f"{at:%Y%m%d-%H%M%S}.jsonl")
    return path


def test_a_session_comes_back_as_it_was(tmp_path: Path) -> None:
    kept(tmp_path / "sessions", ROW, SECOND)
    history = SessionHistory(tmp_path / "sessions")
    (entry,) = history.earlier()
    assert entry.started_at == NOON
    found = history.read(entry.name)
    assert found.rows == (ROW, SECOND)
    assert found.machine == MACHINE
    assert found.notice == ""


def test_sessions_are_listed_latest_first_and_without_ones_own(tmp_path: Path) -> None:
    kept(tmp_path, ROW)
    kept(tmp_path, ROW, at=LATER)
    own = SessionHistory(tmp_path, lambda: LATER)
    assert [e.started_at for e in own.earlier()] == [LATER, NOON]
    own.append(ROW, MACHINE)
    assert [e.started_at for e in own.earlier()] == [LATER, NOON], "the same second makes two files"
    assert len(list(tmp_path.iterdir())) == 3


def test_nothing_is_written_before_the_first_reply(tmp_path: Path) -> None:
    assert SessionHistory(tmp_path / "none").earlier() == ()
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("mine")
    (tmp_path / "20261126-120000.txt").write_text("mine")
    assert SessionHistory(tmp_path).earlier() == ()


def test_a_line_cut_off_by_a_crash_costs_that_line_and_is_said(tmp_path: Path) -> None:
    path = kept(tmp_path, ROW, SECOND)
    whole = path.read_text()
    path.write_text(whole[:-40])
    history = SessionHistory(tmp_path)
    found = history.read(path.stem)
    assert found.rows == (ROW,)
    assert "1 of 2 replies" in found.notice
    (aside,) = tmp_path.glob("*.broken-*")
    assert aside.name in found.notice
    assert aside.read_text() == whole[:-40]
    assert history.read(path.stem).notice == "", "what could be read is kept"
    assert [e.name for e in history.earlier()] == [path.stem]


@pytest.mark.parametrize(
    "text", ["", "no JSON\n", "[1]\n", '{"version":1}\n', '{"version":0,"machine":{}}\n', "[" * 9999]
)
def test_a_file_that_says_nothing_is_moved_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "20261126-120000.jsonl"
    path.write_text(text)
    with pytest.raises(NibbleError, match="broken") as caught:
        SessionHistory(tmp_path).read(path.stem)
    (aside,) = tmp_path.iterdir()
    assert aside.name in caught.value.message
    assert aside.read_text() == text
    assert SessionHistory(tmp_path).earlier() == (), "what was moved aside is not offered again"


def test_a_newer_file_stays_where_it_is(tmp_path: Path) -> None:
    path = kept(tmp_path, ROW)
    path.write_text(path.read_text().replace('"version":1', '"version":2'))
    with pytest.raises(NibbleError, match="version 2"):
        SessionHistory(tmp_path).read(path.stem)
    assert list(tmp_path.iterdir()) == [path]


def test_figures_of_an_older_nibble_lack_what_came_later(tmp_path: Path) -> None:
    path = kept(tmp_path, ROW)
    header, line = path.read_text().splitlines()
    data = json.loads(line)
    del data["figures"]["memory"]["process_bytes"], data["figures"]["memory"]["process_measure"]
    path.write_text(f"{header}\n{json.dumps(data)}\n")
    assert SessionHistory(tmp_path).read(path.stem).rows[0].figures.memory.process_bytes == 0


def test_a_session_is_deleted_alone(tmp_path: Path) -> None:
    path = kept(tmp_path, ROW)
    other = kept(tmp_path, ROW, at=LATER)
    history = SessionHistory(tmp_path)
    history.delete(path.stem)
    history.delete(path.stem)
    assert list(tmp_path.iterdir()) == [other]
    (tmp_path / "20260101-000000.jsonl").mkdir()
    with pytest.raises(NibbleError, match="cannot be deleted"):
        history.delete("20260101-000000")


def test_what_cannot_be_written_or_found_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NibbleError, match="cannot be kept"):
        SessionHistory(tmp_path / "file").append(ROW, MACHINE)
    with pytest.raises(NibbleError, match="cannot be read"):
        SessionHistory(tmp_path).read("20260101-000000")


@pytest.mark.parametrize("bound", ["MOST_SESSIONS", "MOST_BYTES"])
def test_of_very_many_sessions_the_oldest_go_as_a_new_one_begins(tmp_path: Path, monkeypatch, bound: str) -> None:
    times = [NOON + timedelta(minutes=minute) for minute in range(5)]
    paths = [kept(tmp_path, ROW, at=at) for at in times]
    (tmp_path / "notes.jsonl").write_text("mine")
    monkeypatch.setattr(history, bound, 3 if bound == "MOST_SESSIONS" else 3 * paths[0].stat().st_size)
    own = SessionHistory(tmp_path, lambda: LATER)
    assert len(own.earlier()) == 5, "to look deletes nothing"
    own.append(ROW, MACHINE)
    assert [entry.started_at for entry in own.earlier()] == times[:1:-1]
    own.append(SECOND, MACHINE)
    assert len(own.earlier()) == 3
    assert (tmp_path / "notes.jsonl").exists()


def test_a_session_that_cannot_be_deleted_stays(tmp_path: Path, monkeypatch, caplog) -> None:
    for minute in range(3):
        kept(tmp_path, ROW, at=NOON + timedelta(minutes=minute))
    monkeypatch.setattr(history, "MOST_SESSIONS", 1)
    monkeypatch.setattr(Path, "unlink", refuse)
    own = SessionHistory(tmp_path, lambda: LATER)
    own.append(ROW, MACHINE)
    assert len(own.earlier()) == 3
    assert "an old session stays" in caplog.text


def refuse(*_: object, **__: object) -> None:
    raise PermissionError("not yours")
