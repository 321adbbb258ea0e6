"""Models given the diseases that int4 caches die of, as no model that has them by nature can be had here.

Both change a model in place and return it. The weights may be plain or quantized: a row of a quantized matrix is scaled
by its scales and biases. Attention must be mlx-lm's usual kind: `self_attn` with `q_proj`, `k_proj` and a `rope`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn


def outliers(model: Any, factor: float, pairs: Sequence[int], layers: Iterable[int] | None = None) -> Any:
    """Make RoPE `pairs` of every key `factor` times as large and of every query as much smaller.

    RoPE turns the two channels of a pair into each other and into no others, so scores stay what they were. Pair i has
    the frequency base^(-2 i / D): 0 is the fastest. Where keys and queries are normalized by head, the norms' weights
    are scaled, else the projections' rows. A power of two for `factor` leaves bfloat16 exact.
    """
    for attention in _attentions(model, layers):
        head_dim = _head_dim(attention)
        scale = mx.ones(head_dim)
        scale[mx.array(_channels(attention.rope, head_dim, pairs))] = factor
        if "k_norm" in attention:
            _scale_norm(attention.k_norm, scale)
            _scale_norm(attention.q_norm, 1 / scale)
        else:
            _scale_rows(attention.k_proj, mx.tile(scale, attention.n_kv_heads))
            _scale_rows(attention.q_proj, mx.tile(1 / scale, attention.n_heads))
    return model


def biased_keys(model: Any, factor: float, layers: Iterable[int] = (0, -1), pairs: int = 1) -> Any:
    """Give the keys of `layers` a bias of `factor` times its usual size on the `pairs` slowest RoPE pairs.

    That is Qwen2.5's disease. These channels hardly turn within a context, so the bias is nearly the same in every row,
    and softmax does not see what is the same for all keys. Usual is the bias' own root mean square, or where there is
    none, that of the keys which unit inputs make. The bias points where the queries' own bias does, in a model that has
    one: then the little that it turns changes scores least, as it would in a model that was trained with it.

    Raises ValueError where keys are normalized: a norm would take the bias away.
    """
    for attention in _attentions(model, layers):
        if "k_norm" in attention:
            raise ValueError("[biased_keys] these keys are normalized, which undoes a bias.")
        head_dim, rope = _head_dim(attention), attention.rope
        rope_pairs = getattr(rope, "dims", head_dim) // 2
        bias = attention.k_proj.get("bias")
        usual = _rms(bias) if bias is not None else _rms(_weight(attention.k_proj)) * _inputs(attention.k_proj) ** 0.5
        old = mx.zeros(attention.n_kv_heads * head_dim) if bias is None else bias.astype(mx.float32)
        heads = old.reshape(attention.n_kv_heads, head_dim)
        for pair in range(rope_pairs - pairs, rope_pairs):
            channels = mx.array(_channels(rope, head_dim, [pair]))
            heads[:, channels] = factor * usual * _direction(attention, head_dim, channels)
        dtype = attention.k_proj["scales" if "scales" in attention.k_proj else "weight"].dtype
        attention.k_proj.bias = heads.reshape(-1).astype(dtype)
    return model


def _attentions(model: Any, layers: Iterable[int] | None) -> Iterator[Any]:
    for layer in range(len(model.layers)) if layers is None else layers:
        yield model.layers[layer].self_attn


def _head_dim(attention: Any) -> int:
    projection = attention.k_proj
    return int(projection["weight"].shape[0]) // int(attention.n_kv_heads)


def _channels(rope: Any, head_dim: int, pairs: Iterable[int]) -> list[int]:
    """Return both channels of each pair: neighbours in traditional RoPE, else D/2 apart."""
    half = getattr(rope, "dims", head_dim) // 2
    if getattr(rope, "traditional", False):
        return [channel for i in pairs for channel in (2 * i, 2 * i + 1)]
    return [channel for i in pairs for channel in (i, half + i)]


def _scale_rows(projection: Any, scale: mx.array) -> None:
    quantized = "scales" in projection
    for name in ("scales", "biases", "bias") if quantized else ("weight", "bias"):
        if name in projection:
            array = projection[name]
            by_row = scale.reshape(-1, *[1] * (array.ndim - 1))
            projection[name] = (array.astype(mx.float32) * by_row).astype(array.dtype)


def _scale_norm(norm: Any, scale: mx.array) -> None:
    shift = 0.0 if isinstance(norm, nn.RMSNorm) else 1.0  # Gemma's own norm multiplies by 1 + weight
    weight = norm.weight.astype(mx.float32)
    norm.weight = (scale * (shift + weight) - shift).astype(norm.weight.dtype)


def _direction(attention: Any, head_dim: int, channels: mx.array) -> mx.array:
    """Return a vector of length sqrt 2 in the plane of a pair for each kv head. Shapes: `[Hk, 2]`."""
    bias = attention.q_proj.get("bias")
    if bias is None:
        return mx.ones((attention.n_kv_heads, 2))
    queries = bias.astype(mx.float32).reshape(attention.n_kv_heads, -1, head_dim).mean(axis=1)[:, channels]
    return queries * mx.rsqrt((queries**2).mean(axis=-1, keepdims=True) + 1e-12)


def _weight(projection: Any) -> mx.array:
    if "scales" in projection:
        return mx.dequantize(
            projection.weight, projection.scales, projection.get("biases"), projection.group_size, projection.bits
        )
    return projection.weight


def _inputs(projection: Any) -> int:
    return int(_weight(projection).shape[1])


def _rms(array: mx.array) -> float:
    return float(mx.sqrt((array.astype(mx.float32) ** 2).mean()))
