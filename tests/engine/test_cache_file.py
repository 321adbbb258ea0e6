"""The file of a conversation's caches: written whole or not at all; damaged anywhere, it is deleted and never used."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.engine import cache_file
from app.engine.cache_store import CacheStore
from tests.engine.kept_cache import Kept, read


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(path: Path, header: Any, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        header, data = header_of(path)
        change(header)
        with_header(path, header, data)

    return spoil


def _claims(length: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])


def _text(text: bytes) -> Callable[[Path], None]:
    return lambda path: with_header(path, text, header_of(path)[1])


def _huge(header: dict[str, Any]) -> None:
    header["tokens"] |= {"shape": [2**62], "data_offsets": [0, 2**64]}


def _wide(header: dict[str, Any]) -> None:
    header["empty"] = {"dtype": "U8", "shape": [0, 2**40], "data_offsets": [0, 0]}


def _overlap(header: dict[str, Any]) -> None:
    header["again"] = dict(header["tokens"])


def _metadata(**values: Any) -> Callable[[Path], None]:
    return changed(lambda header: header["__metadata__"].update(values))


def _tokens(**values: Any) -> Callable[[Path], None]:
    return changed(lambda header: header["tokens"].update(values))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(b"abc"),
    "no header": lambda path: path.write_bytes(bytes(8)),
    "header beyond the file": _claims(2**40),
    "header beyond all bounds": _claims(2**64 - 1),
    "header too long": lambda path: with_header(path, b" " * (cache_file.MAX_HEADER_BYTES + 1), b""),
    "header no JSON": _text(b"{nothing"),
    "header no UTF-8": _text(b"\xff\xfe"),
    "header no object": _text(b"[1]"),
    "header too deep": _text(b"[" * 200_000),
    "no metadata": changed(lambda header: header.pop("__metadata__")),
    "metadata no texts": _metadata(sha256=1),
    "no digest": changed(lambda header: header["__metadata__"].pop("sha256")),
    "another digest": _metadata(sha256="0" * 64),
    "no entries": changed(lambda header: header["__metadata__"].pop("caches")),
    "other entries": _metadata(caches="[]"),
    "no tokens": changed(lambda header: header.update(others=header.pop("tokens"))),
    "tokens of another type": _tokens(dtype="I32"),
    "tokens of no type": _tokens(dtype="I33"),
    "tokens of another shape": _tokens(shape=[75, 2]),
    "tokens of a negative shape": _tokens(shape=[-150]),
    "shape of texts": _tokens(shape=["150"]),
    "offsets of floats": _tokens(data_offsets=[0.0, 600.0]),
    "an array of an exabyte": changed(_huge),
    "an empty array of great width": changed(_wide),
    "two arrays in one place": changed(_overlap),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "another kind of file": lambda path: path.write_bytes(b"SQLite format 3\0" * 1000),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kept, bytes]:
    """A conversation with rings, and its file as it was written."""
    kept = Kept(tmp_path_factory.mktemp("sound"), "gemma3_text", 150)
    return kept, kept.path.read_bytes()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_deleted_and_said_so(
    sound: tuple[Kept, bytes], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept, content = sound
    kept.path.write_bytes(content)
    DAMAGE[damage](kept.path)
    assert kept.load() is None
    assert not kept.path.exists()
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "is deleted: it is damaged: " in caplog.text
    assert kept.save()
    assert kept.load() == kept.tokens


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_flip_and_no_cut_is_ever_used(
    sound: tuple[Kept, bytes], data: st.DataObject, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    kept, content = sound
    spoilt = bytearray(content)
    header = 8 + int.from_bytes(content[:8], "little")
    place = st.one_of(st.integers(0, header - 1), st.integers(header, len(content) - 1))
    if data.draw(st.booleans(), label="cut"):
        del spoilt[data.draw(place, label="at") :]
    for at, bit in data.draw(st.lists(st.tuples(place, st.integers(0, 7)), max_size=3, unique=True), label="flips"):
        if at < len(spoilt):
            spoilt[at] ^= 1 << bit
    kept.path.write_bytes(spoilt)
    loaded = kept.load()
    if spoilt == content:
        assert loaded == kept.tokens
    else:
        assert loaded is None


def test_a_want_of_memory_is_no_damage(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise RuntimeError("[malloc] Unable to allocate 1 bytes.")

    with monkeypatch.context() as patch:
        patch.setattr(mx, "eval", no_memory)
        assert kept.load() is None
    assert kept.load() == kept.tokens


# Writing


def test_writing_that_is_told_to_stop_leaves_what_was_there(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_file, "_PORTION_BYTES", 1024)
    monkeypatch.setattr(cache_file, "_SYNC_BYTES", 8192)
    before = kept.path.read_bytes()
    read(kept.model, kept.caches, [1, 2, 3])
    kept.tokens += [1, 2, 3]
    asked = 0
    while True:
        left = asked

        def stop() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        if kept.save(stop=stop):
            break
        assert kept.path.read_bytes() == before
        assert [p.name for p in kept.path.parent.iterdir()] == [kept.path.name]
        asked += 7
    assert asked > 50, "it asks between portions, while it adds up and while it writes"
    assert kept.load() == kept.tokens


@pytest.mark.parametrize("portions", [2, 400])
def test_a_process_killed_while_it_writes_leaves_what_was_there(kept: Kept, portions: int) -> None:
    """Killed while it adds up, and with part of the file written."""
    killed = f"""
import os, signal
from pathlib import Path
from app.engine import cache_file
from tests.engine.kept_cache import Kept

cache_file._PORTION_BYTES = cache_file._SYNC_BYTES = 256
left = {portions}
def stop():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return False
Kept(Path({str(kept.path.parent.parent)!r}), tokens=200, stop=stop)
"""
    done = subprocess.run([sys.executable, "-c", killed], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert kept.load() == kept.tokens
    parts = [path for path in kept.path.parent.iterdir() if path != kept.path]
    assert len(parts) == (portions > 2)
    for part in parts:
        assert 0 < part.stat().st_size < kept.path.stat().st_size
        os.utime(part, (1, 1))
    kept.store.tidy(["chat-1"])
    assert [*kept.path.parent.iterdir()] == [kept.path]


def test_a_disk_error_leaves_what_was_there(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = kept.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not kept.save()
    assert "could not be written" in caplog.text
    assert kept.path.read_bytes() == before
    assert [p.name for p in kept.path.parent.iterdir()] == [kept.path.name]


def test_a_folder_that_cannot_be_is_no_more_than_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("x")
    kept = Kept(tmp_path)
    kept.store = CacheStore(tmp_path / "file", 10**9)
    assert not kept.save()
    assert kept.load() is None
    assert "could not be written" in caplog.text
