import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import log
from app.log import start_logging
from app.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield Paths(tmp_path, tmp_path, tmp_path, tmp_path)
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_the_window_writes_the_log_file(paths: Paths) -> None:
    start_logging(paths, "nibble")
    logging.getLogger("app.test").info("opened %s", "ü")
    logging.getLogger("app.test").debug("not this")
    (line,) = paths.log_file.read_text(encoding="utf-8").splitlines()
    assert line.endswith("INFO app.test: opened ü")


def test_processes_have_files_of_their_own(paths: Paths) -> None:
    start_logging(paths, "engine")
    logging.getLogger("app.test").info("here")
    assert "here" in (paths.logs / "engine.log").read_text()
    assert not paths.log_file.exists()


def test_only_warnings_reach_stderr(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(paths, "nibble")
    logging.getLogger("app.test").info("quiet")
    logging.getLogger("app.test").warning("loud")
    captured = capsys.readouterr()
    assert "loud" in captured.err
    assert "quiet" not in captured.err
    assert captured.out == "", "stdout is the engine's protocol"


def test_starting_again_writes_every_record_once(paths: Paths) -> None:
    start_logging(paths, "nibble")
    start_logging(paths, "nibble")
    logging.getLogger("app.test").info("once")
    assert paths.log_file.read_text().count("once") == 1


def test_the_file_rotates(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_MAX_BYTES", 2000)
    start_logging(paths, "nibble")
    for i in range(300):
        logging.getLogger("app.test").info("record %d", i)
    files = sorted(p.name for p in paths.logs.iterdir())
    assert files == ["nibble.log", "nibble.log.1", "nibble.log.2", "nibble.log.3"]
    assert all(p.stat().st_size <= 2000 for p in paths.logs.iterdir())
    assert "record 299" in paths.log_file.read_text()


def test_the_program_runs_on_without_a_log_file(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(Paths(paths.data, paths.config, paths.cache, paths.logs / "missing"), "nibble")
    logging.getLogger("app.test").warning("still heard")
    captured = capsys.readouterr()
    assert "no log file" in captured.err
    assert "still heard" in captured.err
