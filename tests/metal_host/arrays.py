"""Arrays of MLX as the plain memory that a kernel sees, and back."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

POISON = 0xFF
"""Every byte that no one has written: a NaN in each float type, as the engine has it."""


def input_buffers(name: str, array: mx.array, contiguous: bool, in_place: bool) -> dict[str, np.ndarray]:
    """Return what an input puts into buffers: its values, and `_shape`, `_strides`, `_ndim` for bodies that name them.

    With `contiguous` the values are copied row by row, else they keep their strides from first element to last. With
    `in_place` they are the array's own memory, which views of it share. Raises ValueError for what cannot be passed.
    """
    if array.ndim == 0:
        raise ValueError(f"[metal_host] input `{name}` has no dimension, which Metal and CUDA pass differently.")
    values = _memory(name, array) if in_place else np.asarray(_plain(array))
    if contiguous and not in_place:
        values = np.ascontiguousarray(values)
    strides = [stride // values.itemsize for stride in values.strides]
    if min(strides) < 0:
        raise ValueError(f"[metal_host] input `{name}` has a negative stride.")
    if not contiguous and not in_place and values.size:
        span = 1 + sum((n - 1) * stride for n, stride in zip(values.shape, strides, strict=True))
        values = np.lib.stride_tricks.as_strided(values, (span,), (values.itemsize,)).copy()
    return {
        name: values,
        f"{name}_shape": np.array(array.shape, np.int32),
        f"{name}_strides": np.array(strides, np.int64),
        f"{name}_ndim": np.array([array.ndim], np.int32),
    }


def output_buffer(shape: Sequence[int], dtype: mx.Dtype, init_value: float | None) -> np.ndarray:
    """Return memory for an output: poison, or the initial value throughout."""
    if init_value is not None:
        return np.array(_plain(mx.full(shape, init_value, dtype)))
    values = np.array(_plain(mx.zeros(shape, dtype)))
    values.reshape(-1).view(np.uint8)[:] = POISON
    return values


def from_buffer(values: np.ndarray, dtype: mx.Dtype) -> mx.array:
    """Return an output as MLX has it."""
    return mx.array(values).view(mx.bfloat16) if dtype == mx.bfloat16 else mx.array(values)


def _memory(name: str, array: mx.array) -> np.ndarray:
    """Return the memory of an evaluated array, to be written behind MLX's back."""
    if array.dtype == mx.bfloat16:
        raise ValueError(f"[metal_host] input `{name}` is written in place and bfloat16, which NumPy lacks.")
    values = np.asarray(array)
    if not values.flags.c_contiguous:
        raise ValueError(f"[metal_host] input `{name}` is written in place and must be row-contiguous.")
    return values


def _plain(array: mx.array) -> mx.array:
    """Return the array, or the bits of a bfloat16, which NumPy lacks."""
    return array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
