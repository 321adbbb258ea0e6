"""Runs one launch of a compiled kernel and says what it did."""

import ctypes
import math
import re
import shutil
import subprocess
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from tests.metal_host.generated_text import TEXT_NAME, GeneratedText

LANES = 32
MAX_THREADS = 1024
"""In a threadgroup, as Metal has it."""


class KernelError(Exception):
    """A kernel did what no GPU need put up with; the message has each finding, with its place in the generated text."""


class BufferKind(IntEnum):
    """What a kernel finds in a buffer.

    An input, an output that no one has written, one with an initial value, or an input that it writes in place.
    """

    INPUT = 0
    FRESH_OUTPUT = 1
    FILLED_OUTPUT = 2
    IN_PLACE = 3


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one buffer that all threads loaded and stored together, and how many distinct ones were loaded."""

    read: int
    written: int
    touched: int


@dataclass(frozen=True, slots=True)
class Launch:
    """What one launch did, of threadgroups of so many threads; `traffic` by buffer, empty in the fast build."""

    kernel: str
    traffic: dict[str, Traffic]
    threads: int
    threadgroup_bytes: int
    barriers: int
    simd_operations: int
    switches: int


class _Buffer(ctypes.Structure):
    """`HostBuffer` of engine/memory.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_ulong),
        ("kind", ctypes.c_uint),
        ("unused", ctypes.c_uint),
        ("read", ctypes.c_ulong),
        ("written", ctypes.c_ulong),
        ("touched", ctypes.c_ulong),
    )


class _Launch(ctypes.Structure):
    """`HostLaunch` of engine/engine.cpp."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("threadgroup", ctypes.c_uint * 3),
        ("schedule", ctypes.c_uint),
        ("buffer_count", ctypes.c_uint),
        ("findings", ctypes.c_char_p),
        ("switches", ctypes.c_ulong),
        ("simd_operations", ctypes.c_ulong),
        ("barriers", ctypes.c_ulong),
        ("threadgroup_bytes", ctypes.c_ulong),
    )


def check_launch(grid: tuple[int, int, int], threadgroup: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the threadgroup that MLX launches: never larger than the grid.

    Raises ValueError for what runs differently on Metal and on CUDA: threads left over at the grid's edge, and
    SIMD-groups of fewer than 32.
    """
    size = tuple(min(t, g) for t, g in zip(threadgroup, grid, strict=True))
    threads = size[0] * size[1] * size[2]
    if min(size) < 1 or any(g % t for g, t in zip(grid, size, strict=True)):
        raise ValueError(f"[metal_host] expected a grid that is a multiple of the threadgroup, got {grid} of {size}.")
    if threads % LANES or threads > MAX_THREADS:
        raise ValueError(f"[metal_host] expected whole SIMD-groups and at most {MAX_THREADS} threads, got {size}.")
    return size


def run(
    library: Path,
    kernel: GeneratedText,
    buffers: dict[str, tuple[np.ndarray, BufferKind]],
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    schedule: int,
) -> Launch:
    """Run a kernel on buffers in the order of their numbers; all kinds but INPUT are written in place.

    Raises KernelError.
    """
    size = check_launch(grid, threadgroup)
    described = (_Buffer * len(buffers))(
        *(_Buffer(array.ctypes.data, array.nbytes, int(kind)) for array, kind in buffers.values())
    )
    launch = _Launch((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*size), schedule, len(buffers))
    # PyDLL keeps Python's lock: the engine's state is static, and one launch runs at a time.
    if ctypes.PyDLL(str(library)).host_run(ctypes.byref(launch), described):
        raise KernelError(
            f"{kernel.name}\n" + _with_places(launch.findings.decode(), library, kernel.text, list(buffers))
        )
    traffic = {
        name: Traffic(b.read, b.written, b.touched)
        for name, b in zip(buffers, described, strict=True)
        if b.read or b.written
    }
    return Launch(
        kernel.name,
        traffic,
        math.prod(size),
        launch.threadgroup_bytes,
        launch.barriers,
        launch.simd_operations,
        launch.switches,
    )


def _with_places(findings: str, library: Path, text: str, names: list[str]) -> str:
    """Return the findings with instructions as lines, buffer numbers as names, and the text of each line below."""
    findings = re.sub(r"pc\+0x([0-9a-f]+)", lambda found: _place(library, int(found[1], 16)), findings)
    findings = re.sub(r"buffer (\d+)", lambda found: f"buffer `{names[int(found[1])]}`", findings)
    lines = text.split("\n")
    quoted = []
    for finding in findings.strip().split("\n"):
        quoted.append(finding)
        for number in dict.fromkeys(int(n) for n in re.findall(r"line (\d+)", finding)):
            if number <= len(lines):
                quoted.append(f"    {TEXT_NAME}:{number}: {lines[number - 1].strip()}")
    return "\n".join(quoted)


def _place(library: Path, address: int) -> str:
    """Return `line N` of the generated text for an instruction: the innermost place that is not the shim's."""
    tool = shutil.which("addr2line")
    if tool is None:
        return f"instruction {address:#x}:"
    command = [tool, "-i", "-e", str(library), hex(address - 1)]
    for place in subprocess.run(command, capture_output=True, text=True).stdout.split("\n"):
        found = re.search(rf"{re.escape(TEXT_NAME)}:(\d+)", place)
        if found:
            return f"line {found[1]}:"
    return f"instruction {address:#x}:"
