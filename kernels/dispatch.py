"""Chooses who carries out an operation, checks its arguments, and counts what was chosen.

A fused kernel runs where there is a GPU, where it takes the shapes, and where it has shown on this very device that it
computes what the reference computes; everywhere else the plain operations of `kernels.reference` run. `reason_against`
says why a shape is not served.
"""

import functools
import logging
from collections import Counter
from dataclasses import dataclass

import mlx.core as mx

from kernels import fused, reference
from kernels.codec import Codec
from kernels.rotation import Rotation, RotationKind

_log = logging.getLogger(__name__)

engagements: Counter[str] = Counter()
"""How often each operation was built, by `operation/path`; path is `fused` or `plain`."""

_MOST_RELATIVE_ERROR = 1e-2
"""What a fused kernel's trial may differ from the reference: half arithmetic costs 2e-3, a wrong index far more."""


def backend() -> str:
    """Return where MLX computes: `metal`, `cuda` or `cpu`."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def quantize(codec: Codec, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
    """Code the keys and values of new tokens.

    Shapes: `[B, Hk, L, D]` each, to codes `[2, B, Hk, L, W]` and scales `[2, B, Hk, L, N]`. Raises ValueError.
    """
    _check_rows(codec, keys, values)
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
    _check_queries(codec, queries, codes.shape[2])
    engagements["attend/plain"] += 1
    return reference.attend(codec, queries, codes, scales, scale, mask)


@dataclass(frozen=True, slots=True)
class Rotated:
    """A decode step's queries, ready for fused attention, and the codes of its new token."""

    queries: mx.array
    factors: mx.array
    codes: mx.array
    scales: mx.array


def quantize_and_rotate(codec: Codec, queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> Rotated:
    """Code a step's keys and values and rotate its queries, in one fused launch. Where `reason_against` is "" only."""
    _check_rows(codec, keys, values)
    _check_queries(codec, queries, keys.shape[1])
    engagements["quantize/fused"] += 1
    codes, scales, rotated, factors = fused.quantize_and_rotate(codec, backend(), queries, keys, values, scale)
    return Rotated(rotated, factors, codes, scales)


def attend_rotated(
    codec: Codec, step: Rotated, codes: mx.array, scales: mx.array, tokens: int, dtype: mx.Dtype
) -> mx.array:
    """Attend on the first `tokens` rows of whole buffers, fused. Where `reason_against` is "" only.

    Shapes: codes `[2, B, Hk, capacity, W]`, scales `[2, B, Hk, capacity, N]`; returns `[B, Hq, 1, D]` of `dtype`.
    """
    engagements["attend/fused"] += 1
    return fused.attend(codec, backend(), step.queries, step.factors, codes, scales, tokens, dtype)


def reason_against(codec: Codec, queries: mx.array, kv_heads: int, capacity: int) -> str:
    """Return why a decode step of these shapes is not fused, or ""."""
    where = backend()
    if where == "cpu":
        return "there is no GPU"
    if queries.shape[2] != 1:
        return "more than one new token"
    return fused.reason_against(codec, queries.shape[1], kv_heads, capacity, queries.dtype) or _trial(
        where,
        codec.rotation.dim,
        codec.group_size,
        codec.mu is not None,
        codec.lam is not None,
        queries.shape[1],
        kv_heads,
        queries.dtype,
    )


@functools.cache
def _trial(
    where: str, head_dim: int, group_size: int, centred: bool, scaled: bool, Hq: int, Hk: int, dtype: mx.Dtype
) -> str:
    """Run one step through the fused kernels, in every cut, and through the reference; return what is wrong, or "".

    A kernel that a driver's compiler refuses, or that computes something else there, must cost speed and not the reply.
    """
    tokens, capacity = 300, 512
    constants = mx.random.uniform(0.5, 1.5, (2, 2, Hk, head_dim), key=mx.random.key(0))
    rotation = Rotation(RotationKind.SRFT, head_dim, 0)
    codec = Codec(rotation, group_size, constants[0] if centred else None, constants[1] if scaled else None)
    rows = mx.random.normal((2, 1, Hk, capacity, head_dim), key=mx.random.key(1)).astype(dtype)
    queries = mx.random.normal((1, Hq, 1, head_dim), key=mx.random.key(2)).astype(dtype)
    scale = head_dim**-0.5
    try:
        codes, scales = reference.quantize(codec, rows)
        last = tokens - 1
        new_rows = (rows[0, :, :, last:tokens], rows[1, :, :, last:tokens])
        new_codes, new_scales, rotated, factors = fused.quantize_and_rotate(codec, where, queries, *new_rows, scale)
        codes[..., last:tokens, :], scales[..., last:tokens, :] = new_codes, new_scales
        right = reference.attend(codec, queries, codes[..., :tokens, :], scales[..., :tokens, :], scale, None)
        right = right.astype(mx.float32)
        # A longer conversation is cut otherwise, by a kernel of its own: none may fail in the middle of a reply.
        for split in fused.splits_for(Hq, Hk, head_dim):
            got = fused.attend(codec, where, rotated, factors, codes, scales, tokens, dtype, split).astype(mx.float32)
            error = float(mx.linalg.norm(got - right) / mx.linalg.norm(right))
            if not error < _MOST_RELATIVE_ERROR:  # so that NaN does not pass
                _log.warning(
                    "fused attention is off by %.1e here: %d,%d,%d %s %s", error, Hq, Hk, head_dim, dtype, split
                )
                return "the fused kernel computes wrongly on this GPU"
    except (RuntimeError, ValueError) as failure:
        _log.warning("fused kernels do not run here: %s", failure)
        return "the fused kernel does not run on this GPU"
    return ""


def _check_rows(codec: Codec, keys: mx.array, values: mx.array) -> None:
    if keys.shape != values.shape:
        raise ValueError(f"[quantize] keys and values must have one shape, got {keys.shape} and {values.shape}.")
    if keys.ndim != 4 or keys.shape[-1] != codec.layout.head_dim:
        raise ValueError(f"[quantize] expected [B, Hk, L, {codec.layout.head_dim}], got {keys.shape}.")


def _check_queries(codec: Codec, queries: mx.array, kv_heads: int) -> None:
    if queries.ndim != 4 or queries.shape[-1] != codec.layout.head_dim:
        raise ValueError(f"[attend] expected queries [B, Hq, L, {codec.layout.head_dim}], got {queries.shape}.")
    if queries.shape[1] % kv_heads:
        raise ValueError(f"[attend] {queries.shape[1]} query heads do not share {kv_heads} key/value heads evenly.")
