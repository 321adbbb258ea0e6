"""Chooses who carries out an operation, checks its arguments, and counts what was chosen.

Until a fused kernel exists for a backend, the plain operations of `kernels.reference` run there, on its default device.
"""

from collections import Counter

import mlx.core as mx

from kernels import reference
from kernels.codec import Codec

engagements: Counter[str] = Counter()
"""How often each operation was built, by `operation/path`."""


def backend() -> str:
    """Return where MLX computes: `metal`, `cuda` or `cpu`."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def path() -> str:
    """Return the backend and how attention is computed on it, as shown to people."""
    return f"{backend()}, plain MLX operations"


def quantize(codec: Codec, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
    """Code the keys and values of new tokens.

    Shapes: `[B, Hk, L, D]` each, to codes `[2, B, Hk, L, W]` and scales `[2, B, Hk, L, N]`. Raises ValueError.
    """
    if keys.shape != values.shape:
        raise ValueError(f"[quantize] keys and values must have one shape, got {keys.shape} and {values.shape}.")
    if keys.ndim != 4 or keys.shape[-1] != codec.layout.head_dim:
        raise ValueError(f"[quantize] expected [B, Hk, L, {codec.layout.head_dim}], got {keys.shape}.")
    engagements["quantize/plain"] += 1
    return reference.quantize(codec, mx.stack([keys, values]))


def dequantize(codec: Codec, codes: mx.array, scales: mx.array, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
    """Return approximate keys and values. Shapes: `[2, B, Hk, S, ...]` to `[B, Hk, S, D]` each, of `dtype`."""
    engagements["dequantize/plain"] += 1
    return reference.dequantize(codec, codes, scales, dtype)


def attend(
    codec: Codec, queries: mx.array, codes: mx.array, scales: mx.array, scale: float, mask: mx.array | str | None
) -> mx.array:
    """Attend on the codes; shapes as `kernels.reference.attend`. Raises ValueError on shapes that do not fit."""
    if queries.ndim != 4 or queries.shape[-1] != codec.layout.head_dim:
        raise ValueError(f"[attend] expected queries [B, Hq, L, {codec.layout.head_dim}], got {queries.shape}.")
    if queries.shape[1] % codes.shape[2]:
        raise ValueError(
            f"[attend] {queries.shape[1]} query heads do not share {codes.shape[2]} key/value heads evenly."
        )
    engagements["attend/plain"] += 1
    return reference.attend(codec, queries, codes, scales, scale, mask)
