"""A stand-in for `mx.fast.metal_kernel` that runs kernels on the host, and the block in which it stands in."""

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from tests.metal_host.arrays import from_buffer, input_buffers, output_buffer
from tests.metal_host.compiler import Build, compile_kernel
from tests.metal_host.generated_text import generate
from tests.metal_host.launch import BufferKind, Launch, run

WRITTEN_IN_PLACE = re.compile(r"\bIN_PLACE\([^,()]+,\s*(\w+)\s*\)")
"""How a body names an input that it writes (kernels/metal/metal_prelude.h)."""


@dataclass
class Host:
    """How kernels run at present, and every launch so far."""

    build: Build
    schedule: int
    launches: list[Launch] = field(default_factory=list)

    @property
    def last(self) -> Launch:
        """The latest launch."""
        return self.launches[-1]


_hosts: list[Host] = []


@contextmanager
def metal_host(build: Build = "fast", schedule: int = 0) -> Iterator[Host]:
    """Let `mx.fast.metal_kernel` make kernels that run here, at once, on the CPU.

    Bit 0 of `schedule` (0 to 3) runs the lanes of a SIMD-group from the last to the first, bit 1 the SIMD-groups and
    threadgroups. A kernel made in one such block may be called in a later one, and runs in the later one's way. MLX
    compiles no functions meanwhile: it would hide the arrays that a kernel is to run on.
    """
    real, mx.fast.metal_kernel = mx.fast.metal_kernel, HostKernel
    mx.disable_compile()
    _hosts.append(Host(build, schedule))
    try:
        yield _hosts[-1]
    finally:
        _hosts.pop()
        mx.fast.metal_kernel = real
        if not _hosts:
            mx.enable_compile()


class HostKernel:
    """What `mx.fast.metal_kernel` returns inside `metal_host`; constructor and call are MLX's."""

    _metal_kernel = staticmethod(mx.fast.metal_kernel)

    def __init__(
        self,
        name: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        source: str,
        header: str = "",
        ensure_row_contiguous: bool = True,
        compile_options: dict[str, Any] | None = None,
    ) -> None:
        self._kernel = self._metal_kernel(
            name, input_names, output_names, source, header, ensure_row_contiguous, compile_options=compile_options
        )
        self._input_names = tuple(input_names)
        self._output_names = tuple(output_names)
        self._contiguous = ensure_row_contiguous
        self._in_place = set(WRITTEN_IN_PLACE.findall(re.sub(r"//.*", "", source)))
        if unknown := self._in_place - set(input_names):
            raise ValueError(f"[metal_host] IN_PLACE names what is no input of {name}: {', '.join(sorted(unknown))}.")

    def __call__(
        self,
        *,
        inputs: Sequence[mx.array],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        template: Sequence[tuple[str, Any]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: mx.Stream | mx.Device | None = None,
    ) -> list[mx.array]:
        """Run the kernel now. Raises CompileError, KernelError, or ValueError for a launch that is not portable."""
        if not _hosts:
            raise RuntimeError("[metal_host] a kernel made inside `metal_host` was called outside.")
        host = _hosts[-1]
        generated = generate(
            self._kernel,
            list(inputs),
            output_shapes=output_shapes,
            output_dtypes=output_dtypes,
            grid=grid,
            threadgroup=threadgroup,
            template=template,
        )
        if verbose:
            print(generated.text)
        buffers = {
            label: (values, BufferKind.IN_PLACE if label in self._in_place else BufferKind.INPUT)
            for name, array in zip(self._input_names, inputs, strict=True)
            for label, values in input_buffers(name, array, self._contiguous, name in self._in_place).items()
        }
        written = [values for values, kind in buffers.values() if kind == BufferKind.IN_PLACE]
        if any(np.may_share_memory(a, b) for a, b in itertools.combinations(written, 2)):
            raise ValueError("[metal_host] two inputs that are written in place share memory.")
        kind = BufferKind.FRESH_OUTPUT if init_value is None else BufferKind.FILLED_OUTPUT
        for name, shape, dtype in zip(self._output_names, output_shapes, output_dtypes, strict=True):
            buffers[name] = (output_buffer(shape, dtype, init_value), kind)
        passed = {a.name: buffers[a.name] for a in generated.arguments if a.buffer is not None}
        library = compile_kernel(generated, host.build)
        host.launches.append(run(library, generated, passed, grid, threadgroup, host.schedule))
        return [
            from_buffer(buffers[name][0], dtype) for name, dtype in zip(self._output_names, output_dtypes, strict=True)
        ]
