"""The kernels' text, and the one place that turns it into something callable.

A kernel is ONE body in Metal Shading Language (`metal/*.metal`). Apple's GPUs get it through `mx.fast.metal_kernel`,
NVIDIA's through `mx.fast.cuda_kernel` behind a prelude that says the same names in CUDA, and the tests run it on the
host. Each is built on first use and kept: MLX compiles it once for every set of template values.
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

_FOLDER = Path(__file__).parent / "metal"
_PRELUDES = {"metal": "metal_prelude.h", "cuda": "cuda_prelude.h"}

Launch = Callable[[list[mx.array]], list[mx.array]]


@dataclass(frozen=True, slots=True)
class Source:
    """One kernel: body and headers it needs, inputs and outputs in order, and macros defined before them.

    With `row_contiguous` the kernel takes no strides: MLX copies inputs first that are not row-contiguous. A buffer
    that is written in place must be, or the copy is what is written.
    """

    name: str
    body: str
    headers: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macros: tuple[tuple[str, int], ...] = ()
    row_contiguous: bool = False


def resident(threads: int, threadgroups: int) -> tuple[tuple[str, int], ...]:
    """Return the macros that let so many threadgroups of `threads` threads share an NVIDIA core."""
    return (("LAUNCH_THREADS", threads), ("RESIDENT", threadgroups))


def launch(
    source: Source,
    backend: str,
    template: Sequence[tuple[str, Any]],
    threadgroups: tuple[int, int, int],
    threads: int,
    outputs: Sequence[tuple[tuple[int, ...], mx.Dtype]],
) -> Launch:
    """Return a kernel on `backend` ("metal" or "cuda"), ready for its inputs, with `threads` threads a threadgroup.

    Inputs must be as the kernel expects them. What it does not take strides of is copied first where it must be.
    """
    kernel = _kernel(source, backend, mx.fast.metal_kernel)
    fixed = {
        "template": list(template),
        "grid": (threadgroups[0] * threads, threadgroups[1], threadgroups[2]),
        "threadgroup": (threads, 1, 1),
        "output_shapes": [shape for shape, _ in outputs],
        "output_dtypes": [dtype for _, dtype in outputs],
    }

    def run(inputs: list[mx.array]) -> list[mx.array]:
        made: list[mx.array] = kernel(inputs=inputs, **fixed)
        return made

    return run


@functools.cache
def _kernel(source: Source, backend: str, metal_kernel: Any) -> Any:
    """Build a kernel; `metal_kernel` is part of the key because the tests put the emulator in its place."""
    make = metal_kernel if backend == "metal" else mx.fast.cuda_kernel
    macros = "".join(f"#define {name} {value}\n" for name, value in source.macros)
    return make(
        name=source.name,
        input_names=list(source.inputs),
        output_names=list(source.outputs),
        source=_text(source.body),
        header=macros + "".join(_text(name) for name in (_PRELUDES[backend], *source.headers)),
        ensure_row_contiguous=source.row_contiguous,
    )


@functools.cache
def _text(name: str) -> str:
    """Return a file without comments and indentation: MLX copies and hashes the whole text at every call."""
    text = re.sub(r"//[^\n]*", "", (_FOLDER / name).read_text(encoding="utf-8"))
    return "\n".join(line for line in (line.strip() for line in text.split("\n")) if line) + "\n"
