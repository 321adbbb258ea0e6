"""What tests of the emulator share: one-dimensional launches and their data."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np


def launch(
    source: str,
    inputs: dict[str, mx.array],
    outputs: dict[str, tuple[Sequence[int], mx.Dtype]],
    threads: int,
    threadgroup: int,
    header: str = "",
    contiguous: bool = True,
    **call: Any,
) -> list[mx.array]:
    """Make a kernel of one-dimensional launches through whatever `mx.fast.metal_kernel` is, and call it once."""
    kernel = mx.fast.metal_kernel(
        name="small",
        input_names=list(inputs),
        output_names=list(outputs),
        source=source,
        header=header,
        ensure_row_contiguous=contiguous,
    )
    return kernel(
        inputs=list(inputs.values()),
        output_shapes=[shape for shape, _ in outputs.values()],
        output_dtypes=[dtype for _, dtype in outputs.values()],
        grid=(threads, 1, 1),
        threadgroup=(threadgroup, 1, 1),
        **call,
    )


def uniform(*shape: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).uniform(-2, 2, shape).astype(np.float32))
