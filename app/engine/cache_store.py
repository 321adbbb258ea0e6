"""The folder of conversations' caches: a file a conversation, all together within a bound, the oldest first out.

It holds copies of what can be read again, so what is of no use is deleted: damaged files, those of conversations that
are gone, the ones not used for longest where there is no room. Nothing but files with names of this module's making is
ever touched.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.engine.cache_file import CacheFile, CacheFileError, Content, Stop, StoppedError
from app.engine.cache_state import CacheStateError
from app.engine.calibration_store import constants_digest, fingerprint
from app.engine.model_folder import OpenModel

_log = logging.getLogger(__name__)

FORMAT = "nibble-cache"
VERSION = 2
"""To be raised with whatever changes what codes, scales and positions mean."""
SPARE_BYTES = 10**9
"""What is left free of a disk."""
_STALE_PART_S = 3600
_NAME_DIGITS = 32


def identity_of(opened: OpenModel) -> dict[str, str]:
    """Return what a file must agree with to be used with this model. Raises OSError and ValueError.

    mlx-lm's version is part of it, since its models decide what keys and values are.
    """
    assert opened.calibration is not None
    return {
        "format": FORMAT,
        "version": str(VERSION),
        "model": fingerprint(Path(opened.facts.path)),
        "calibration": constants_digest(opened.calibration),
        "int4_layers": "".join("0" if reason else "1" for reason in opened.plan.reasons),
        "mlx_lm": version("mlx-lm"),
    }


class CacheStore:
    """The files in `folder`, of at most `limit_bytes` together; the folder is made when there is something to keep."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def path(self, chat_id: str) -> Path:
        """Return where a conversation's caches are kept."""
        return self._folder / f"{hashlib.sha256(chat_id.encode()).hexdigest()[:_NAME_DIGITS]}.safetensors"

    def tidy(self, chat_ids: Collection[str]) -> None:
        """Delete what belongs to none of these conversations, what is beyond the bound, and parts left by a crash."""
        kept = {self.path(chat_id) for chat_id in chat_ids}
        for path in self._files():
            if path not in kept:
                _delete(path, "its conversation is gone")
        self._make_room(0)
        now = time.time()
        for part in self._folder.glob(".*.part"):
            with suppress(OSError):
                if _is_ours(part.name.split(".")[1]) and now - part.stat().st_mtime > _STALE_PART_S:
                    _delete(part, "it was never finished")

    def forget(self, chat_id: str) -> None:
        """Delete a conversation's file."""
        path = self.path(chat_id)
        if path.exists():
            _delete(path, "its conversation is deleted")

    def load(
        self, chat_id: str, identity: Mapping[str, str], is_useful: Callable[[list[int]], bool], caches: Sequence[Any]
    ) -> list[int] | None:
        """Fill fresh `caches` from a conversation's file and return the tokens they then hold.

        None where there is no file, where it was made under another identity, where `is_useful` declines its tokens,
        and where it is damaged; it is then deleted, and `caches` are to be dropped.
        """
        path = self.path(chat_id)
        try:
            file = CacheFile(path)
            if not file.belongs_to({**identity, "chat": chat_id}):
                _log.info("%s is of another model, calibration, setting or version", path)
                return None
            tokens = file.tokens()
            if not is_useful(tokens):
                return None
            file.fill(caches)
        except FileNotFoundError:
            return None
        except CacheFileError as error:
            _delete(path, f"it is damaged: {error}", logging.WARNING)
            return None
        except (OSError, RuntimeError):
            _log.warning("%s could not be read", path, exc_info=True)
            return None
        with suppress(OSError):
            os.utime(path)  # what is used is not old
        return tokens

    def save(
        self, chat_id: str, identity: Mapping[str, str], tokens: Sequence[int], caches: Sequence[Any], stop: Stop
    ) -> bool:
        """Keep a conversation's caches; return whether they are kept now. What came before is kept where they are not.

        While a file is written, the one that it replaces is there too, on top of the bound.
        """
        path = self.path(chat_id)
        try:
            content = Content({**identity, "chat": chat_id}, tokens, caches)
            if content.nbytes > self._limit_bytes:
                _log.info("%s would take %d bytes, more than all files may", path, content.nbytes)
                return False
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if shutil.disk_usage(self._folder).free < content.nbytes + SPARE_BYTES:
                _log.warning("%s is not written: the disk is nearly full", path)
                return False
            self._make_room(content.nbytes, beside=path)
            content.write(path, stop)
        except StoppedError:
            _log.info("%s: writing was left off", path)
            return False
        except (OSError, RuntimeError, CacheStateError):
            _log.warning("%s could not be written", path, exc_info=True)
            return False
        return True

    def _files(self) -> list[Path]:
        return [path for path in self._folder.glob("*.safetensors") if _is_ours(path.stem)]

    def _make_room(self, size: int, beside: Path | None = None) -> None:
        """Delete the files not used for longest until `size` bytes fit; `beside` is about to be replaced."""
        found = []
        for path in self._files():
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_mtime_ns, path, stat.st_size))
        total = size + sum(size for _, path, size in found if path != beside)
        for _, path, freed in sorted(found):
            if total <= self._limit_bytes:
                return
            if path != beside:
                _delete(path, "there is room for no more")
                total -= freed


def _is_ours(stem: str) -> bool:
    return len(stem) == _NAME_DIGITS and set(stem) <= set("0123456789abcdef")


def _delete(path: Path, why: str, level: int = logging.INFO) -> None:
    _log.log(level, "%s is deleted: %s", path, why)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s could not be deleted: %s", path, error)
