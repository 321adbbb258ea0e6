"""Chooses who carries out an operation, checks its arguments, and counts what was chosen.

A fused kernel runs where there is a GPU, where it takes the shapes, and where it has shown on this very device that it
computes what the reference computes; everywhere else the plain operations of `kernels.reference` run. `reason_against`
says why a decode step is not fused.
"""

import functools
import logging
from collections import Counter
from collections.abc import Callable

import mlx.core as mx

from kernels import bulk, cuts, fused, reference
from kernels.codec import Codec
from kernels.layout import SCALE_DTYPE
from kernels.memory import is_want_of_memory
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
    _check_rows("quantize", codec, keys, values)
    if _bulk_reason(codec, keys.dtype, keys.shape[1]):
        engagements["quantize/plain"] += 1
        return reference.quantize(codec, mx.stack([keys, values]))
    engagements["quantize/fused"] += 1
    return bulk.quantize(codec, backend(), keys, values)


def dequantize(codec: Codec, codes: mx.array, scales: mx.array, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
    """Return approximate keys and values. Shapes: `[2, B, Hk, S, ...]` to `[B, Hk, S, D]` each, of `dtype`.

    Raises ValueError.
    """
    _check_coded("dequantize", codec, codes, scales)
    if _bulk_reason(codec, dtype, codes.shape[2]):
        engagements["dequantize/plain"] += 1
        return reference.dequantize(codec, codes, scales, dtype)
    engagements["dequantize/fused"] += 1
    expanded = bulk.dequantize(codec, backend(), codes, scales, dtype)
    return expanded[0], expanded[1]


def dequantize_before(
    codec: Codec, codes: mx.array, scales: mx.array, keys: mx.array, values: mx.array
) -> tuple[mx.array, mx.array]:
    """Return approximate keys and values of coded tokens, followed by exact ones, as prefill attends to them.

    In one buffer, so that a long history is not held twice. Shapes: codes `[2, B, Hk, S, W]` and scales
    `[2, B, Hk, S, N]`, keys and values `[B, Hk, L, D]`, to `[B, Hk, S + L, D]` each. Raises ValueError.
    """
    _check_coded("dequantize_before", codec, codes, scales)
    _check_rows("dequantize_before", codec, keys, values)
    if _bulk_reason(codec, keys.dtype, codes.shape[2]):
        engagements["dequantize/plain"] += 1
        past = reference.dequantize(codec, codes, scales, keys.dtype)
        return mx.concatenate([past[0], keys], axis=2), mx.concatenate([past[1], values], axis=2)
    engagements["dequantize/fused"] += 1
    expanded = bulk.dequantize(codec, backend(), codes, scales, keys.dtype, after=keys)
    expanded[..., codes.shape[3] :, :] = mx.stack([keys, values])
    return expanded[0], expanded[1]


def attend(
    codec: Codec, queries: mx.array, codes: mx.array, scales: mx.array, scale: float, mask: mx.array | str | None
) -> mx.array:
    """Attend on codes that hold the new tokens already; shapes as `kernels.reference.attend`. Raises ValueError."""
    _check_coded("attend", codec, codes, scales)
    _check_queries("attend", codec, queries, codes.shape[2])
    engagements["attend/plain"] += 1
    return reference.attend(codec, queries, codes, scales, scale, mask)


def append_and_attend(
    codec: Codec,
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
) -> tuple[mx.array, mx.array]:
    """Code 1 to 8 new tokens into the cache's own buffers, IN PLACE and behind MLX's back, and attend on all of them.

    Where `reason_against` is "" only. Each new token sees all before it, itself included, that the mask leaves it.

    Shapes: queries `[B, Hq, L, D]`, keys and values `[B, Hk, L, D]`; codes `[2, B, Hk, capacity, W]` and scales `[2, B,
    Hk, capacity, N]`, whole: rows `position` and on are written, in a ring of `window` rows modulo that (L is 1 then).
    They must be row-contiguous; rows of queries, keys and values begin at multiples of 4 bytes. `position` is
    `start_position` of the tokens before this step, or what the last step returned: only that orders one step after
    another. `tokens` counts the tokens after the step. A mask is bool `[.., L, rows]`, a column a row of the cache.
    Returns the result `[B, Hq, L, D]` and the next position. Raises ValueError.
    """
    _check_rows("append_and_attend", codec, keys, values)
    _check_coded("append_and_attend", codec, codes, scales)
    _check_queries("append_and_attend", codec, queries, keys.shape[1])
    _check("append_and_attend", "queries of as many tokens as keys", queries.shape[2], keys.shape[2])
    _check("append_and_attend", "buffers of batch and heads", codes.shape[1:3], keys.shape[:2])
    _check("append_and_attend", "keys of the queries' type", keys.dtype, queries.dtype)
    _check_position("append_and_attend", position, min(tokens, window or tokens), codes.shape[3])
    engagements["append_and_attend/fused"] += 1
    return fused.append_and_attend(
        codec, backend(), queries, keys, values, codes, scales, position, tokens, scale, mask, window
    )


def attend_again(
    codec: Codec,
    queries: mx.array,
    codes: mx.array,
    scales: mx.array,
    position: mx.array,
    tokens: int,
    scale: float,
    mask: mx.array | str | None = None,
    window: int = 0,
) -> tuple[mx.array, mx.array]:
    """Attend on whole buffers that hold the new tokens already: for a layer that reads another one's cache.

    Where `reason_against` of `coded` is "" only. `position` counts `tokens`, and is returned, to order what follows.
    Otherwise as `append_and_attend`. Raises ValueError.
    """
    _check_coded("attend_again", codec, codes, scales)
    _check_queries("attend_again", codec, queries, codes.shape[2])
    _check_position("attend_again", position, min(tokens, window or tokens), codes.shape[3])
    engagements["attend_again/fused"] += 1
    return fused.attend(codec, backend(), queries, codes, scales, position, tokens, scale, mask, window)


def start_position(tokens: int) -> mx.array:
    """Return the position of a step that comes after `tokens` tokens; computed on the device, where it is read."""
    return mx.zeros((fused.POSITION_SIZE,), mx.int32) + tokens


def reason_against(
    codec: Codec,
    queries: mx.array,
    kv_heads: int,
    capacity: int,
    tokens: int,
    mask: mx.array | str | None = None,
    window: int = 0,
    coded: bool = False,
) -> str:
    """Return why a step of these shapes is not fused, or ""; arguments as of `append_and_attend`, said once each.

    With `coded` of a step whose tokens the cache holds already (`attend_again`).
    """
    where = backend()
    if where == "cpu":
        return "there is no GPU"
    reason = fused.reason_against(codec, queries, kv_heads, capacity, mask, window)
    if not reason:
        shape = (codec.group_size, codec.mu is not None, codec.lam is not None, codec.smooth is not None)
        # One new token at a time is what a reply is made of: no length of it may fail in the middle.
        at = tokens if queries.shape[2] > 1 else 0
        reason = _step_reason(where, tuple(queries.shape[1:]), kv_heads, *shape, queries.dtype, window, coded, at)
    if reason:
        _say(reason)
    return reason


@functools.lru_cache(maxsize=1024)
def _step_reason(
    where: str,
    queries: tuple[int, int, int],
    Hk: int,
    group_size: int,
    centred: bool,
    scaled: bool,
    smoothed: bool,
    dtype: mx.Dtype,
    window: int,
    coded: bool,
    tokens: int,
) -> str:
    """Try the cut at `tokens`, or those of all lengths for 0; return what is wrong, or ""."""
    Hq, L, D = queries
    heads = (where, Hq // Hk * L, Hk, D)
    kinds = [cuts.cut_for(*heads, tokens).kind] if tokens else cuts.kinds_of_cut(*heads, window)
    shape = (D, group_size, centred, scaled, smoothed, Hq, Hk, L)
    return next(filter(None, (_trial(where, *shape, dtype, window, coded, kind) for kind in kinds)), "")


@functools.cache
def _say(reason: str) -> None:
    _log.info("decode steps are not fused: %s", reason)


@functools.cache
def _trial(
    where: str,
    head_dim: int,
    group_size: int,
    centred: bool,
    scaled: bool,
    smoothed: bool,
    Hq: int,
    Hk: int,
    L: int,
    dtype: mx.Dtype,
    window: int,
    coded: bool,
    cut: cuts.Cut,
) -> str:
    """Run one step through the fused kernel, in one cut, and through the reference; return what is wrong, or "".

    A kernel that a driver's compiler refuses, or that computes something else there, must cost speed and not the reply.
    """
    capacity = 512
    before = min(300, (window or capacity) - L)
    tokens, scale = before + L, head_dim**-0.5
    codec = _trial_codec(head_dim, group_size, centred, scaled, smoothed, Hk)
    rows = mx.random.normal((2, 1, Hk, capacity, head_dim), key=mx.random.key(1)).astype(dtype)
    queries = mx.random.normal((1, Hq, L, head_dim), key=mx.random.key(2)).astype(dtype)

    def error() -> float:
        codes, scales = reference.quantize(codec, rows)
        right = (codes[..., :tokens, :], scales[..., :tokens, :])
        exact = reference.attend(codec, queries, *right, scale, "causal" if L > 1 else None)
        if coded:
            mx.eval(codes, scales)
            position = start_position(tokens)
            got, _ = fused.attend(codec, where, queries, codes, scales, position, tokens, scale, window=window, cut=cut)
            return _difference(got, exact)
        # The new rows are the kernel's to write: until then they hold something else.
        stale = (mx.arange(capacity) >= before)[:, None]
        buffers = (mx.where(stale, mx.array(0, codes.dtype), codes), mx.where(stale, mx.array(1, SCALE_DTYPE), scales))
        mx.eval(buffers)
        new_rows = (rows[0, :, :, before:tokens], rows[1, :, :, before:tokens])
        position = start_position(before)
        got, done = fused.append_and_attend(
            codec, where, queries, *new_rows, *buffers, position, tokens, scale, window=window, cut=cut
        )
        mx.eval(got, done)
        written = (buffers[0][..., :tokens, :], buffers[1][..., :tokens, :])
        return max(
            _difference(got, exact),
            _difference(*(mx.stack(list(reference.dequantize(codec, *c, mx.float32))) for c in (written, right))),
        )

    operation = "attend_again" if coded else "append_and_attend"
    return _verdict(error, f"{operation} {Hq},{Hk},{head_dim} {dtype} {cut}")


def _bulk_reason(codec: Codec, dtype: mx.Dtype, Hk: int) -> str:
    """Return why many rows are not coded or expanded by a fused kernel, or ""."""
    where = backend()
    if where == "cpu":
        return "there is no GPU"
    constants = (codec.mu is not None, codec.lam is not None, codec.smooth is not None)
    shape = (codec.layout.head_dim, codec.group_size, *constants)
    return bulk.reason_against(codec, dtype) or _bulk_trial(where, *shape, Hk, dtype)


@functools.cache
def _bulk_trial(
    where: str, head_dim: int, group_size: int, centred: bool, scaled: bool, smoothed: bool, Hk: int, dtype: mx.Dtype
) -> str:
    """Code and expand some rows through the fused kernels and the reference; return what is wrong, or ""."""
    codec = _trial_codec(head_dim, group_size, centred, scaled, smoothed, Hk)
    rows = mx.random.normal((2, 1, Hk, 70, head_dim), key=mx.random.key(1)).astype(dtype)

    def error() -> float:
        right = mx.stack(list(reference.dequantize(codec, *reference.quantize(codec, rows), mx.float32)))
        return _difference(bulk.dequantize(codec, where, *bulk.quantize(codec, where, *rows), dtype), right)

    return _verdict(error, f"quantize and dequantize {head_dim} {dtype}")


def _trial_codec(head_dim: int, group_size: int, centred: bool, scaled: bool, smoothed: bool, Hk: int) -> Codec:
    constants = mx.random.uniform(0.5, 1.5, (2, 2, Hk, head_dim), key=mx.random.key(0))
    smooth = mx.random.uniform(0.5, 2.0, (Hk, head_dim), key=mx.random.key(3)) if smoothed else None
    rotation = Rotation(RotationKind.SRFT, head_dim, 0)
    return Codec(rotation, group_size, constants[0] if centred else None, constants[1] if scaled else None, smooth)


def _verdict(error: Callable[[], float], what: str) -> str:
    try:
        found = error()
    except (RuntimeError, ValueError) as failure:
        if is_want_of_memory(failure):
            raise  # that says nothing about the kernel, and the verdict is kept
        _log.warning("the fused %s does not run here: %s", what, failure)
        return "the fused kernel does not run on this GPU"
    if not found < _MOST_RELATIVE_ERROR:  # so that NaN does not pass
        _log.warning("the fused %s is off by %.1e here", what, found)
        return "the fused kernel computes wrongly on this GPU"
    return ""


def _difference(got: mx.array, right: mx.array) -> float:
    got, right = got.astype(mx.float32), right.astype(mx.float32)
    return float(mx.linalg.norm(got - right) / mx.linalg.norm(right))


def _check(operation: str, what: str, got: object, expected: object) -> None:
    if got != expected:
        raise ValueError(f"[{operation}] expected {what} {expected}, got {got}.")


def _check_rows(operation: str, codec: Codec, keys: mx.array, values: mx.array) -> None:
    if keys.ndim != 4 or keys.shape[-1] != codec.layout.head_dim:
        raise ValueError(f"[{operation}] expected keys [B, Hk, L, {codec.layout.head_dim}], got {keys.shape}.")
    _check(operation, "values of the keys' shape", values.shape, keys.shape)
    _check(operation, "values of the keys' type", values.dtype, keys.dtype)
    if not mx.issubdtype(keys.dtype, mx.floating):
        raise ValueError(f"[{operation}] expected keys of a float type, got {keys.dtype}.")


def _check_position(operation: str, position: mx.array, rows: int, capacity: int) -> None:
    _check(operation, "a position", (position.shape, position.dtype), ((fused.POSITION_SIZE,), mx.int32))
    if rows > capacity:
        raise ValueError(f"[{operation}] expected at most {capacity} rows, got {rows}.")


def _check_queries(operation: str, codec: Codec, queries: mx.array, kv_heads: int) -> None:
    if queries.ndim != 4 or queries.shape[-1] != codec.layout.head_dim:
        raise ValueError(f"[{operation}] expected queries [B, Hq, L, {codec.layout.head_dim}], got {queries.shape}.")
    if queries.shape[1] % kv_heads:
        raise ValueError(
            f"[{operation}] expected query heads that {kv_heads} key/value heads share evenly, got {queries.shape[1]}."
        )


def _check_coded(operation: str, codec: Codec, codes: mx.array, scales: mx.array) -> None:
    layout = codec.layout
    if codes.ndim != 5 or codes.shape[0] != 2 or codes.shape[4] != layout.words or codes.dtype != mx.uint32:
        raise ValueError(
            f"[{operation}] expected codes [2, B, Hk, S, {layout.words}] uint32, got {codes.shape} {codes.dtype}."
        )
    _check(operation, "scales of shape", scales.shape, (*codes.shape[:4], layout.groups))
    _check(operation, "scales of type", scales.dtype, SCALE_DTYPE)
