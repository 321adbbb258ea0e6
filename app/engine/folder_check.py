"""What is looked at in a model folder before anything of it is read into memory: it may come from anywhere.

Links are followed, since download caches are made of them; what they lead to must be an ordinary file all the same.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from app.errors import NibbleError

MOST_TEXT_BYTES = 256 * 1024**2
"""Of a file that is read whole, such as a tokenizer; the largest known have 50 MB."""
MOST_CONFIG_BYTES = 16 * 1024**2
_READ = ("*.json", "*.jsonl", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.safetensors", "*chat_templates/*")
_LAYER_COUNT = re.compile(r"(num|n)_(\w+_)?layers?|n_?layers?|depth")
_MOST_NESTED = 3


def check_files(path: Path) -> None:
    """Make sure that what would be read is ordinary files of a sane size. Raises NibbleError."""
    for pattern in _READ:
        for file in path.glob(pattern):
            if file.is_dir():
                continue
            if not file.is_file():
                raise NibbleError(f"{file} is no ordinary file, or leads to none.", "Fetch this model again.")
            most = MOST_CONFIG_BYTES if file.name == "config.json" else MOST_TEXT_BYTES
            if file.suffix != ".safetensors" and (size := file.stat().st_size) > most:
                raise NibbleError(
                    f"{file} has {size / 1024**2:,.0f} MB; none of its kind has more than {most / 1024**2:,.0f}.",
                    "Fetch this model again, or choose another.",
                )


def check_headers(path: Path, config: dict[str, Any]) -> None:
    """Make sure that the headers of the weights say no more than is there, and the config no more than the headers.

    No weight is read and nothing allocated: safetensors checks types, shapes and places against the file's length.
    Raises NibbleError.
    """
    tensors = 0
    for file in sorted(path.glob("model*.safetensors")):
        try:
            with safe_open(file, framework="numpy") as opened:
                tensors += len(opened.keys())
        except (SafetensorError, OSError) as error:
            raise NibbleError(
                f"The weights in {file} cannot be read: {error}",
                "The file may be cut short or damaged: fetch it again.",
            ) from error
    for key, count in _layer_counts(config):
        if count > tensors:
            raise NibbleError(
                f"The weights in {path} do not fit its config.json: {key} is {count}, but there are {tensors} tensors.",
                "Fetch this model again.",
            )


def _layer_counts(config: dict[str, Any], depth: int = _MOST_NESTED) -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, dict) and depth:
            yield from _layer_counts(value, depth - 1)
        elif isinstance(value, int | float) and _LAYER_COUNT.fullmatch(key):
            yield key, int(value) if abs(value) < float("inf") else 2**63
