"""Plain operations in the fused kernels' place, with their signatures, for a machine without a GPU."""

import mlx.core as mx

from kernels import reference
from kernels.codec import Codec
from kernels.cuts import Cut


def plain_step(
    codec: Codec,
    backend: str,
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    codes: mx.array,
    scales: mx.array,
    position: mx.array,
    tokens: int,
    scale: float,
    mask: mx.array | str | None = None,
    window: int = 0,
    cut: Cut | None = None,
) -> tuple[mx.array, mx.array]:
    """The decode step in plain operations; assignment to an array's rows is seen by all who hold the array."""
    L = queries.shape[2]
    at = (tokens - L) % window if window else tokens - L
    codes[..., at : at + L, :], scales[..., at : at + L, :] = reference.quantize(codec, mx.stack([keys, values]))
    result, _ = plain_attention(codec, backend, queries, codes, scales, position, tokens, scale, mask, window)
    return result, position + L


def plain_attention(
    codec: Codec,
    backend: str,
    queries: mx.array,
    codes: mx.array,
    scales: mx.array,
    position: mx.array,
    tokens: int,
    scale: float,
    mask: mx.array | str | None = None,
    window: int = 0,
) -> tuple[mx.array, mx.array]:
    """Attention alone."""
    seen = min(tokens, window) if window else tokens
    return reference.attend(codec, queries, codes[..., :seen, :], scales[..., :seen, :], scale, mask), position


def plain_quantize(codec: Codec, backend: str, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
    return reference.quantize(codec, mx.stack([keys, values]))


def plain_dequantize(codec: Codec, backend: str, codes: mx.array, scales: mx.array, dtype: mx.Dtype) -> mx.array:
    return mx.stack(list(reference.dequantize(codec, codes, scales, dtype)))
