"""One conversation's caches in a file: written whole or not at all, and used only where every byte is as written.

The file is a safetensors file of mlx's. Its metadata say whose caches they are, how the arrays go into them, and the
SHA-256 of all else that is in it.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import mlx.core as mx

from app.engine.cache_state import CacheStateError, put_together, taken_apart

Stop = Callable[[], bool]
"""Whether to leave off at the next occasion, which comes within milliseconds."""

MAX_HEADER_BYTES = 4 * 1024**2
"""A hundred times what two hundred layers take; a header that claims more is none of ours."""
_HEADER_BYTES = 300
_ENTRY_BYTES = 150
"""More than the header takes beside the metadata's texts: the digest and the like, and each array's entry."""
_PORTION_BYTES = 8 * 1024**2
_SYNC_BYTES = 32 * 1024**2
"""Written through to the disk this often: however slow it is, the next occasion to leave off is near."""
_ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}
_MAX_DIMENSION = 2**31 - 1
_TOKENS = "tokens"
_DIGEST = "sha256"
_CACHES = "caches"


class CacheFileError(Exception):
    """A file is damaged, or none of ours; the message says in what."""


class StoppedError(Exception):
    """Writing was told to stop; the file before it is still there."""


class Content:
    """What is to be written: tokens and caches, and whose they are. Raises CacheStateError (`taken_apart`)."""

    def __init__(self, identity: Mapping[str, str], tokens: Sequence[int], caches: Sequence[Any]) -> None:
        entries, arrays = taken_apart(caches)
        self.metadata = {**identity, _CACHES: json.dumps(entries, separators=(",", ":"))}
        self.arrays = {_TOKENS: mx.array(list(tokens), mx.uint32), **arrays}

    @property
    def nbytes(self) -> int:
        """Bytes of the file, or a little more."""
        texts = sum(len(json.dumps(text)) + len(name) for name, text in self.metadata.items())
        return _HEADER_BYTES + texts + sum(array.nbytes + _ENTRY_BYTES for array in self.arrays.values())

    def write(self, path: Path, stop: Stop) -> None:
        """Write the file, which only its owner may read. Readers see the old one or the new one, never a part.

        Raises OSError, RuntimeError and StoppedError.
        """
        self.arrays = {name: mx.contiguous(array) for name, array in self.arrays.items()}
        self.metadata[_DIGEST] = _digest(self.metadata, self.arrays, stop)
        part = path.with_name(f".{path.stem}.{os.getpid()}.part")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                mx.save_safetensors(_Portions(file, stop), self.arrays, self.metadata)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


class CacheFile:
    """A file that is there, with sizes as its header says. Nothing but the header has been read.

    Raises CacheFileError, and OSError where it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        _check_sizes(path)
        try:
            self._arrays, self._metadata = _load(path)
        except (RuntimeError, ValueError) as error:
            raise CacheFileError(f"MLX cannot read it: {error}") from error

    def belongs_to(self, identity: Mapping[str, str]) -> bool:
        """Return whether the file was written with this identity."""
        return identity.items() <= self._metadata.items()

    def tokens(self) -> list[int]:
        """Read the tokens that the caches hold. They are only to be believed once `fill` has come back."""
        tokens = self._arrays.get(_TOKENS)
        if tokens is None or tokens.ndim != 1 or tokens.dtype != mx.uint32:
            raise CacheFileError("it has no tokens")
        ids: Any = tokens.tolist()
        return list(ids)

    def fill(self, caches: Sequence[Any]) -> None:
        """Read everything and put it into fresh `caches`. Raises CacheFileError; the caches are then to be dropped.

        Raises RuntimeError where MLX cannot read it after all, mostly for want of memory.
        """
        try:
            tokens = len(self.tokens())
            mx.eval(self._arrays)
            metadata = dict(self._metadata)
            written = metadata.pop(_DIGEST, "")
            if _digest(metadata, self._arrays, lambda: False) != written:
                raise CacheFileError("its bytes are not those that were written")
            put_together(caches, json.loads(metadata[_CACHES]), self._arrays, tokens)
        except (CacheStateError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CacheFileError(str(error)) from error


class _Portions:
    """A file that takes what is written in portions, and leaves off between two of them when told to."""

    def __init__(self, file: BinaryIO, stop: Stop) -> None:
        self._file = file
        self._stop = stop
        self._unsynced = 0

    @property
    def closed(self) -> bool:
        return self._file.closed

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: memoryview) -> int:
        for begin in range(0, len(data), _PORTION_BYTES):
            if self._stop():
                raise StoppedError
            self._unsynced += self._file.write(data[begin : begin + _PORTION_BYTES])
            if self._unsynced >= _SYNC_BYTES:
                self._unsynced = 0
                self._file.flush()
                os.fsync(self._file.fileno())
        return len(data)


def _load(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    content: Any = mx.load(str(path), format="safetensors", return_metadata=True)
    arrays, metadata = content
    return arrays, metadata


def _digest(metadata: Mapping[str, str], arrays: Mapping[str, mx.array], stop: Stop) -> str:
    """Return the SHA-256 of metadata, names, types, shapes and bytes. Raises StoppedError."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        octets: Any = array.reshape(-1).view(mx.uint8)  # MLX's stubs tell of its buffers from Python 3.12 on
        data = memoryview(octets)
        for begin in range(0, len(data), _PORTION_BYTES):
            if stop():
                raise StoppedError
            digest.update(data[begin : begin + _PORTION_BYTES])
    return digest.hexdigest()


def _check_sizes(path: Path) -> None:
    """Compare what the header says of lengths with the file, before anything is allocated. Raises CacheFileError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise CacheFileError(f"its header is said to have {length} bytes, the file has {size}")
        text = file.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__")
        if not all(isinstance(value, str) for value in metadata.values()):
            raise CacheFileError("its metadata are no texts")
        spans = sorted(_span(tensor) for tensor in header.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CacheFileError(f"its header cannot be read ({error!r})") from error
    at = 0
    for begin, end in spans:
        if begin != at:
            raise CacheFileError("its arrays do not lie one behind the other")
        at = end
    if at != size - 8 - length:
        raise CacheFileError(f"its arrays take {at} bytes, the file has {size - 8 - length} for them")


def _span(tensor: Mapping[str, Any]) -> tuple[int, int]:
    begin, end = tensor["data_offsets"]
    shape = tensor["shape"]
    if not all(type(n) is int and 0 <= n <= _MAX_DIMENSION for n in shape) or not type(begin) is type(end) is int:
        raise ValueError("sizes are no numbers")
    if not 0 <= begin <= end or end - begin != math.prod(shape) * _ITEM_BYTES[tensor["dtype"]]:
        raise ValueError(f"{end - begin} bytes for {shape} of {tensor['dtype']}")
    return begin, end
