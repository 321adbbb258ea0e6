"""The kernels' text, and the one place that turns it into something callable.

A kernel is ONE body in Metal Shading Language (`metal/*.metal`). Apple's GPUs get it through `mx.fast.metal_kernel`,
NVIDIA's through `mx.fast.cuda_kernel` behind a prelude that says the same names in CUDA, and the tests run it on the
host. Each is built on first use and kept: MLX compiles it once for every set of template values.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

_FOLDER = Path(__file__).parent / "metal"
_PRELUDES = {"metal": "metal_prelude.h", "cuda": "cuda_prelude.h"}
_COMMON = ("numbers.h", "codes.h", "srft.h", "srft_lanes.h", "srft_rows.h")


@dataclass(frozen=True, slots=True)
class Source:
    """One kernel: which body, its inputs and outputs in order, and macros that are defined before it."""

    name: str
    body: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macros: tuple[tuple[str, int], ...] = ()


def attend_source(whole: bool, masked: bool, threads: int, resident: int) -> Source:
    """Return the decode step: `whole` where it needs no second pass, `masked` where it takes a mask.

    On NVIDIA `resident` threadgroups of `threads` threads are to fit a core.
    """
    inputs = ("queries", "keys", "values", "codes", "scales", "position", "table")
    return Source(
        f"nibble_attend{'_whole' * whole}{'_masked' * masked}",
        "attend.metal",
        (*inputs, "mask") if masked else inputs,
        ("result", "next") if whole else ("sums", "parts", "next"),
        macros=(("WHOLE", int(whole)), ("MASKED", int(masked)), ("LAUNCH_THREADS", threads), ("RESIDENT", resident)),
    )


ATTEND_MERGE = Source("nibble_attend_merge", "attend_merge.metal", ("sums", "parts", "table"), ("result",))


def launch(
    source: Source,
    backend: str,
    inputs: Sequence[mx.array],
    template: Sequence[tuple[str, Any]],
    threadgroups: tuple[int, int, int],
    threads: int,
    outputs: Sequence[tuple[tuple[int, ...], mx.Dtype]],
) -> list[mx.array]:
    """Call a kernel on `backend` ("metal" or "cuda") with `threads` threads in each of `threadgroups`.

    Inputs are passed as they lie, so that a cache's buffer is never copied: they must be as the kernel expects them.
    """
    grid = (threadgroups[0] * threads, threadgroups[1], threadgroups[2])
    result: list[mx.array] = _kernel(source, backend, mx.fast.metal_kernel)(
        inputs=list(inputs),
        template=list(template),
        grid=grid,
        threadgroup=(threads, 1, 1),
        output_shapes=[shape for shape, _ in outputs],
        output_dtypes=[dtype for _, dtype in outputs],
    )
    return result


@functools.cache
def _kernel(source: Source, backend: str, metal_kernel: Any) -> Any:
    """Build a kernel; `metal_kernel` is part of the key because the tests put the emulator in its place."""
    make = metal_kernel if backend == "metal" else mx.fast.cuda_kernel
    macros = "".join(f"#define {name} {value}\n" for name, value in source.macros)
    header = macros + "".join(_text(name) for name in (_PRELUDES[backend], *_COMMON))
    return make(
        name=source.name,
        input_names=list(source.inputs),
        output_names=list(source.outputs),
        source=_text(source.body),
        header=header,
        ensure_row_contiguous=False,
    )


@functools.cache
def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
