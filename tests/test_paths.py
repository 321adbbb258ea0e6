import os
import re
from pathlib import Path

import pytest

from app.errors import NibbleError
from app.paths import default_paths, move_aside, replace_text


def test_home_variable_holds_all_four_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIBBLE_HOME", str(tmp_path / "home"))
    paths = default_paths()
    home = tmp_path / "home"
    assert (paths.data, paths.config) == (home / "data", home / "config")
    assert (paths.cache, paths.logs) == (home / "cache", home / "logs")
    for folder in (paths.data, paths.config, paths.cache, paths.logs):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert paths.database == home / "data" / "nibble.sqlite3"
    assert paths.settings_file == home / "config" / "settings.json"
    assert paths.log_file == home / "logs" / "nibble.log"
    assert default_paths() == paths, "folders that are there already are no error"


def test_home_variable_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIBBLE_HOME", "here")
    assert default_paths().data == tmp_path / "here" / "data"


def test_without_the_variable_folders_are_the_systems_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIBBLE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    paths = default_paths()
    for folder in (paths.data, paths.config, paths.cache, paths.logs):
        assert folder.is_dir()
        assert folder.is_relative_to(tmp_path)
        assert "Nibble" in folder.parts


def test_a_folder_that_cannot_be_made_is_told_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NIBBLE_HOME", str(tmp_path / "file"))
    with pytest.raises(NibbleError, match="could not be made") as caught:
        default_paths()
    assert "NIBBLE_HOME" in caught.value.hint


def test_replaced_text_is_exact_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("old, and longer than the new one")
    replace_text(path, "ü 🙂\r\nline\n")
    assert path.read_bytes() == "ü 🙂\r\nline\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_utf8_cannot_hold_is_written_all_the_same(tmp_path: Path) -> None:
    replace_text(tmp_path / "a", "half \ud83d pair")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "half ? pair"


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings.json"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NibbleError, match="No space left on device"):
        replace_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_where_there_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(NibbleError, match="could not be written"):
        replace_text(tmp_path / "missing" / "a", "text")


def test_moving_aside_keeps_every_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    kept = []
    for content in ("first", "second", "third"):
        path.write_text(content)
        kept.append(move_aside(path, "broken"))
        assert not path.exists()
    assert [k.read_text() for k in kept] == ["first", "second", "third"]
    assert all(re.fullmatch(r"settings\.broken-\d{8}-\d{6}(-\d+)?\.json", k.name) for k in kept)
