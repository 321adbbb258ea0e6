import errno
import fcntl
from pathlib import Path

import pytest

from app.errors import NibbleError
from app.instance_lock import InstanceLock


def test_one_holds_it_until_it_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "window.lock"
    first = InstanceLock(path)
    with pytest.raises(NibbleError, match="open already") as caught:
        InstanceLock(path)
    assert caught.value.hint
    first.release()
    InstanceLock(path).release()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(NibbleError, match="could not be made"):
        InstanceLock(tmp_path / "missing" / "window.lock")


def test_a_file_system_without_locks_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    InstanceLock(tmp_path / "window.lock").release()
    assert "cannot be locked" in caplog.text
