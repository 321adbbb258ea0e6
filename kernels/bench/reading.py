"""A kernel that does nothing but read: it gives the read ceiling, and flushes the caches of a GPU before a cold run.

Portable Metal text like all others, but of the benchmark alone, so it stands here and not in `kernels/metal`.
"""

import functools
from pathlib import Path
from typing import Any

import mlx.core as mx

import kernels

READ_KERNEL = "nibble_read"
"""Part of the kernel's name, by which its time is told from the others'."""
READ_BYTES = 256 * 2**20
"""Several times the last-level cache of any GPU today."""

_THREADS = 512
_PRELUDES = {"metal": "metal_prelude.h", "cuda": "cuda_prelude.h"}

_TEXT = """
// Launch: any number of threadgroups of THREADS threads.
// Inputs: x T of any shape, big uint [4 * PACKS]. Outputs: out T, a copy of x.
// What is read from big must look used: the one write that depends on it changes nothing.
  const device uint4* packs = (const device uint4*)big;
  const uint thread_id = thread_index_in_threadgroup;
  const uint first = threadgroup_position_in_grid.x * THREADS + thread_id;
  uint found = 0;
  #pragma unroll 4
  for (uint i = first; i < PACKS; i += threadgroups_per_grid.x * THREADS) {
    const uint4 pack = packs[i];
    found ^= pack.x ^ pack.y ^ pack.z ^ pack.w;
  }
  if (threadgroup_position_in_grid.x == 0) {
    uint size = 1;
    for (int i = 0; i < x_ndim; i++) size *= x_shape[i];
    for (uint i = thread_id; i < size; i += THREADS) out[i] = x[i];
  }
  if (found == 0x9E3779B9u) out[0] = x[0];
"""


def read_over(x: mx.array, backend: str, big: mx.array | None = None, threadgroups: int = 528) -> mx.array:
    """Return a copy of `x`, made by a kernel that first reads all of `big` (uint32, `READ_BYTES` unless given)."""
    big = _big() if big is None else big
    made: list[mx.array] = _kernel(backend, mx.fast.metal_kernel)(
        inputs=[x, big],
        template=[("T", x.dtype), ("PACKS", big.size // 4), ("THREADS", _THREADS)],
        grid=(threadgroups * _THREADS, 1, 1),
        threadgroup=(_THREADS, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    return made[0]


@functools.cache
def _big() -> mx.array:
    made = mx.random.randint(0, 2**31 - 1, (READ_BYTES // 4,)).astype(mx.uint32)
    mx.eval(made)
    return made


@functools.cache
def _kernel(backend: str, metal_kernel: Any) -> Any:
    """Build the kernel; `metal_kernel` is part of the key because the tests put the emulator in its place."""
    make = metal_kernel if backend == "metal" else mx.fast.cuda_kernel
    prelude = Path(kernels.__file__).parent / "metal" / _PRELUDES[backend]
    return make(
        name=READ_KERNEL,
        input_names=["x", "big"],
        output_names=["out"],
        source=_TEXT,
        header=prelude.read_text(encoding="utf-8"),
    )
