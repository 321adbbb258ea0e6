"""Whether a model folder is whole: every file that it needs is there, every weight file as long as its header says."""

import json
import re
from pathlib import Path
from typing import Any

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "*.tiktoken", "vocab.json", "vocab.txt")
INDEX = "model.safetensors.index.json"
UNFINISHED = ("*.incomplete", "*.part", "*.partial", "*.download")
"""What downloads in the making are called by the hub's programs, LM Studio and browsers."""
_SHARD = re.compile(r"model.*-of-(\d+)\.safetensors")
_MOST_HEADER_BYTES = 100_000_000
"""The format's own bound."""


def is_complete(folder: Path) -> bool:
    """Return whether `folder` holds a whole model: config, tokenizer, all weights at their length, nothing unfinished.

    Reads headers and sizes alone, some milliseconds; whether the bytes are right is for checksums to say.
    """
    return missing(folder) is None


def missing(folder: Path) -> str | None:
    """Return what keeps `folder` from being a whole model, as the end of a sentence; None where it is one."""
    try:
        return _missing(folder)
    except OSError as error:
        return f"{folder} cannot be read ({error.strerror or error})"


def _missing(folder: Path) -> str | None:
    for pattern in UNFINISHED:
        if found := next(folder.glob(pattern), None):
            return f"{found.name} is unfinished"
    if not (folder / "config.json").is_file():
        return "config.json is missing"
    if not any(path.is_file() for name in TOKENIZER_FILES for path in folder.glob(name)):
        return "the tokenizer is missing"
    weights = {path.name for path in folder.glob("model*.safetensors")}
    if (folder / INDEX).is_file():
        if (indexed := _indexed(folder / INDEX)) is None:
            return f"{INDEX} cannot be read"
        weights |= indexed
    elif absent := _absent_shard(weights):
        return f"{absent} is missing"
    if not weights:
        return "the weights are missing"
    for name in sorted(weights):
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != _length_by_header(path):
            return f"{name} is cut short or damaged"
    return None


def _indexed(path: Path) -> set[str] | None:
    try:
        names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return names if names and all(isinstance(name, str) and Path(name).name == name for name in names) else None


def _absent_shard(weights: set[str]) -> str | None:
    """Return a shard that is not there, where the others' names say of how many they are and no index does."""
    for name in sorted(weights):
        if match := _SHARD.fullmatch(name):
            digits, stem = match[1], name[: -len(f"-of-{match[1]}.safetensors")].rstrip("0123456789")
            for number in range(1, int(digits) + 1):
                wanted = f"{stem}{number:0{len(digits)}}-of-{digits}.safetensors"
                if wanted not in weights:
                    return wanted
    return None


def _length_by_header(path: Path) -> int | None:
    """Return the bytes that a safetensors file should have by its own header; None where that is none.

    The format: 8 bytes with the header's length, little end first; the header, JSON, with every tensor's place in what
    follows (https://github.com/huggingface/safetensors, "Format").
    """
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > _MOST_HEADER_BYTES:
            return None
        text = file.read(header_bytes)
    try:
        header: dict[str, Any] = json.loads(text)
        ends = [int(tensor["data_offsets"][1]) for name, tensor in header.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    return 8 + header_bytes + max(ends, default=0)
