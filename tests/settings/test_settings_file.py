import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.chat.options import CacheMode, ChatOptions, Sampling
from app.errors import NibbleError
from app.settings.file import VERSION, load_settings, save_settings
from app.settings.schema import Settings, with_value

FULL = Settings(
    chat=ChatOptions(
        cache_mode=CacheMode.FP16,
        group_size=64,
        system_prompt='Sei "höflich".\n🙂',
        sampling=Sampling(temperature=0.0, top_p=0.5, top_k=40, min_p=0.05, max_tokens=64, seed=7),
    ),
    model_path="/models/a",
    recent_model_paths=("/models/a", "/models/b"),
    show_panel=False,
    memory_budget_gb=12.5,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    is_root = os.geteuid() == 0
    folder.chmod(0o500)
    if is_root:
        os.seteuid(65534)  # root may write everywhere
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)


def written(path: Path, **changes: Any) -> Path:
    save_settings(path, FULL)
    data = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_settings_come_back_as_they_were(path: Path) -> None:
    save_settings(path, FULL)
    loaded = load_settings(path)
    assert loaded.settings == FULL
    assert loaded.notice == ""


def test_the_file_is_versioned_and_readable(path: Path) -> None:
    save_settings(path, FULL)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["version"] == VERSION
    assert "höflich" in text
    assert len(text.splitlines()) > 10


def test_the_first_start_has_defaults_and_no_notice(path: Path) -> None:
    loaded = load_settings(path)
    assert loaded.settings == Settings()
    assert loaded.notice == ""
    assert not path.exists()


def test_version_1_is_still_read(path: Path) -> None:
    path.write_text(
        """{"version": 1,
            "chat": {"cache_mode": "fp16", "group_size": 64, "system_prompt": "Be brief.",
                     "sampling": {"temperature": 0.5, "top_p": 0.8, "top_k": 20, "min_p": 0.1, "max_tokens": 100,
                                  "seed": 1}},
            "model_path": "/m", "recent_model_paths": ["/m"], "show_panel": false}"""
    )
    sampling = Sampling(temperature=0.5, top_p=0.8, top_k=20, min_p=0.1, max_tokens=100, seed=1)
    expected = Settings(ChatOptions(CacheMode.FP16, 64, "Be brief.", sampling), "/m", ("/m",), False)
    assert load_settings(path).settings == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[1]",
        b"{}",
        b'{"version": "1"}',
        b'{"version": 0}',
        b'{"version": true}',
        b"[" * 100_000,
    ],
)
def test_a_broken_file_is_moved_aside(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    loaded = load_settings(path)
    assert loaded.settings == Settings()
    (kept,) = path.parent.iterdir()
    assert kept.name.startswith("settings.broken-")
    assert kept.read_bytes() == content
    assert str(kept) in loaded.notice
    assert "defaults" in loaded.notice


def test_a_newer_file_is_moved_aside_with_both_versions_told(path: Path) -> None:
    written(path, version=VERSION + 4)
    content = path.read_bytes()
    loaded = load_settings(path)
    assert loaded.settings == Settings()
    assert f"version {VERSION + 4}" in loaded.notice
    assert f"up to {VERSION}" in loaded.notice
    (kept,) = path.parent.iterdir()
    assert kept.name.startswith("settings.newer-")
    assert kept.read_bytes() == content


def test_what_is_no_file_is_moved_aside_too(path: Path) -> None:
    path.mkdir()
    loaded = load_settings(path)
    assert "could not be read" in loaded.notice
    save_settings(path, FULL)
    assert load_settings(path).settings == FULL


def test_a_broken_file_that_cannot_be_moved_is_told_and_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("{")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    loaded = load_settings(path)
    assert loaded.settings == Settings()
    assert "could not be moved aside (Permission denied)" in loaded.notice
    assert path.read_text() == "{"


@pytest.mark.parametrize(
    ("chat", "key", "said"),
    [
        ({"sampling": {"temperature": 9, "top_k": 40}}, "chat.sampling.temperature", "Temperature"),
        ({"sampling": {"temperature": "hot", "top_k": 40}}, "chat.sampling.temperature", "chat.sampling.temperature"),
        ({"sampling": {"temperature": float("nan"), "top_k": 40}}, "chat.sampling.temperature", "nan"),
        ({"sampling": {"temperature": 10**400, "top_k": 40}}, "chat.sampling.temperature", "too large"),
        ({"sampling": {"seed": -1, "top_k": 40}}, "chat.sampling.seed", "Seed"),
        ({"group_size": 48, "sampling": {"top_k": 40}}, "chat.group_size", "Group size must be 32 or 64, not 48"),
        ({"cache_mode": "int8", "sampling": {"top_k": 40}}, "chat.cache_mode", "int8"),
        ({"system_prompt": 5, "sampling": {"top_k": 40}}, "chat.system_prompt", "chat.system_prompt"),
    ],
)
def test_one_bad_value_gets_its_default_and_the_others_stay(path: Path, chat: Any, key: str, said: str) -> None:
    loaded = load_settings(written(path, chat=chat))
    assert loaded.settings.chat == with_value(Settings(), "chat.sampling.top_k", 40).chat, f"{key} has its default"
    assert loaded.settings.recent_model_paths == FULL.recent_model_paths
    assert said in loaded.notice
    assert path.exists(), "one bad value is no reason to move the file"
    save_settings(path, loaded.settings)
    assert load_settings(path).notice == ""


def test_values_that_are_no_fields_are_checked_as_well(path: Path) -> None:
    loaded = load_settings(
        written(path, show_panel="yes", model_path=None, recent_model_paths=["/a", 3], chat=[], colour="red")
    )
    assert loaded.settings == Settings(memory_budget_gb=FULL.memory_budget_gb)
    for name in ("show_panel", "model_path", "recent_model_paths[1]", "chat must be an object", "colour"):
        assert name in loaded.notice


def test_too_many_recent_models_are_cut(path: Path) -> None:
    loaded = load_settings(written(path, recent_model_paths=[f"/{i}" for i in range(20)]))
    assert loaded.settings.recent_model_paths == tuple(f"/{i}" for i in range(8))


def test_values_out_of_bounds_are_not_saved(path: Path) -> None:
    save_settings(path, FULL)
    before = path.read_bytes()
    with pytest.raises(NibbleError, match="Top-p"):
        save_settings(path, with_value(FULL, "chat.sampling.top_p", 1.5))
    assert path.read_bytes() == before


def test_saving_where_there_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(NibbleError, match="could not be written"):
        save_settings(tmp_path / "missing" / "settings.json", FULL)


def test_saving_in_a_read_only_folder_is_told(path: Path) -> None:
    save_settings(path, FULL)
    with read_only(path.parent), pytest.raises(NibbleError, match="Permission denied"):
        save_settings(path, Settings())
    assert load_settings(path).settings == FULL


@pytest.mark.parametrize("budget", [0.1, 2000, -1, "8"])
def test_a_budget_out_of_bounds_is_automatic_again(path: Path, budget: object) -> None:
    loaded = load_settings(written(path, memory_budget_gb=budget))
    assert loaded.settings.memory_budget_gb is None
    assert loaded.settings.memory_budget_bytes == 0
    assert "udget" in loaded.notice
    assert load_settings(written(path, memory_budget_gb=8)).settings.memory_budget_bytes == 8_000_000_000
