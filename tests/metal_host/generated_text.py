"""The text that MLX generates round a kernel's body for Apple GPUs, as MLX itself prints it."""

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

TEXT_NAME = "generated.metal"
"""What the generated text is called where a message names one of its lines."""

PRINTED = re.compile(r"```\n(.*)\n```", re.S)
SIGNATURE = re.compile(r"\[\[kernel\]\] void (\w+)\((.*?)\) \{\n", re.S)
ARGUMENT = re.compile(r"\s*(?P<type>.+?)\s*(?P<name>\w+) \[\[(?P<attribute>\w+)(?:\((?P<buffer>\d+)\))?\]\]")
INSTANCE = re.compile(r"\ntemplate \[\[host_name\(.*?\)\]\] \[\[kernel\]\] decltype\((\w+<.*?>)\) \1;\n")


@dataclass(frozen=True, slots=True)
class Argument:
    """One parameter of the generated function; `buffer` is its number, None for a position of the thread."""

    type: str
    name: str
    buffer: int | None


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """A kernel as MLX would hand it to Metal's compiler, but for the last line, which asks for one template instance.

    `instance` is that request: the function's name with its template arguments.
    """

    name: str
    instance: str
    text: str
    arguments: tuple[Argument, ...]


def generate(kernel: Callable[..., Any], inputs: list[mx.array], **call: Any) -> GeneratedText:
    """Return what MLX generates for this call of an `mx.fast.metal_kernel`; nothing runs."""
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "printed.txt"
        with _standard_output_into(printed):
            mx.export_function(
                str(Path(folder) / "kernel.mlxfn"),
                lambda *traced: kernel(inputs=list(traced), verbose=True, **call),
                *inputs,
            )
        found = PRINTED.search(printed.read_text())
    if found is None:
        raise RuntimeError("MLX printed no kernel text: has `verbose=True` of mx.fast.metal_kernel changed?")
    return _read(found[1])


def _read(text: str) -> GeneratedText:
    signature = SIGNATURE.search(text)
    if signature is None:
        raise RuntimeError("MLX generated a signature of an unknown form.")
    arguments = tuple(
        Argument(found["type"], found["name"], None if found["buffer"] is None else int(found["buffer"]))
        for found in ARGUMENT.finditer(signature[2])
    )
    instance = INSTANCE.search(text)
    return GeneratedText(signature[1], instance[1] if instance else signature[1], INSTANCE.sub("", text), arguments)


@contextmanager
def _standard_output_into(file: Path) -> Iterator[None]:
    """Send what C++ prints into a file: MLX writes to the process's standard output, past Python's `sys.stdout`."""
    sys.stdout.flush()
    before = os.dup(1)
    with file.open("wb") as opened:
        os.dup2(opened.fileno(), 1)
        try:
            yield
        finally:
            ctypes.CDLL(None).fflush(None)
            os.dup2(before, 1)
            os.close(before)
