"""What must hold before anything is timed: the fused kernels against the reference on the CPU, on this machine."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import mlx.core as mx

from kernels import bulk, fused, reference
from kernels.bench.cases import SHAPES, STEP_ROWS, Case
from kernels.codec import Codec
from kernels.lanes import HEAD_SIZES
from kernels.layout import CODES_PER_WORD, SCALE_CHOICES
from kernels.rotation import Rotation, RotationKind

T = TypeVar("T")

TOKENS = 1000
FEW_TOKENS = 200
"""So few that a step is one launch."""
_ROWS = 509
"""Tokens coded at once: no multiple of anything."""
WINDOW = 480
"""A ring's rows, fewer than are allocated."""
MOST_DIFFERING_CODES = 1e-4
"""A value on a code's edge may fall to either side of it, by the last bit of the rotation's sum."""
MOST_DIFFERING_CHOICES = 5e-4
"""Two of the scales tried for a group may give the same squared error but for rounding: then either may be taken."""
_SAME_ERROR = 1e-2
"""A tried scale on the edge between two float16 may fall to either: by a step of `SCALE_ULP` the error moves so far."""
SCALE_ULP = 2.0**-10
"""The most that two neighbouring float16 differ by, relatively."""
_TIMES_PLAIN = 2.0
"""How much larger than the plain implementation's a fused kernel's error may be."""
_STALE_WORD = 0xF0F0F0F0


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured error and the most that it may be."""

    what: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the error is within its limit; NaN is not."""
        return self.error <= self.limit

    def __str__(self) -> str:
        return f"{'ok    ' if self.passed else 'FAILED'} {self.what}: {self.error:.2g} (at most {self.limit:.2g})"


def checks(backend: str) -> Iterator[Finding]:
    """Run every check, one after the other. A GPU compiles each kernel for each set of sizes: about 30 of them."""
    for head_dim in HEAD_SIZES:
        yield from append(backend, head_dim, 32)
    yield from append(backend, 96, 64)
    for head_dim in (80, 128, 256):
        yield dequantize(backend, head_dim, 32)
    for shape in SHAPES:
        yield from step(backend, Case(*shape, TOKENS), again=True)
    for head_dim in (80, 96, 192):
        yield from step(backend, Case(8, 4, head_dim, TOKENS), calibrated=True)
    yield from step(backend, Case(32, 8, 128, TOKENS, 64))
    yield from step(backend, Case(12, 2, 128, TOKENS), new_tokens=4, mask="causal", calibrated=True, again=True)
    yield from step(backend, Case(4, 1, 256, TOKENS), new_tokens=4, mask="causal", calibrated=True, again=True)
    yield from step(backend, Case(32, 8, 128, TOKENS), dtype=mx.float16)
    yield from step(backend, Case(32, 8, 64, FEW_TOKENS), new_tokens=4, mask="array")
    yield from step(backend, Case(4, 1, 256, TOKENS), window=WINDOW, again=True)


def append(backend: str, head_dim: int, group_size: int, tokens: int = _ROWS) -> Iterator[Finding]:
    """Compare the codes and scales of many tokens with the reference's."""
    what = f"append, D = {head_dim}, G = {group_size}"
    codec = _codec(head_dim, group_size, 2)
    keys, values = (_rows(2, tokens, head_dim) for _ in range(2))
    coded = bulk.quantize(codec, backend, keys, values)
    yield from _same_codes(what, codec, coded, mx.stack([keys, values]))


def dequantize(backend: str, head_dim: int, group_size: int, tokens: int = _ROWS) -> Finding:
    """Compare expanded rows with the reference's."""
    codec = _codec(head_dim, group_size, 2)
    codes, scales = _on_cpu(reference.quantize, codec, mx.random.normal((2, 1, 2, tokens, head_dim)))
    expanded = bulk.dequantize(codec, backend, codes, scales, mx.bfloat16)
    right = mx.stack(list(_on_cpu(reference.dequantize, codec, codes, scales, mx.float32)))
    what = f"dequantize, D = {head_dim}, G = {group_size}: relative error"
    return Finding(what, _relative(expanded, right), _TIMES_PLAIN * _relative(right.astype(mx.bfloat16), right))


def step(
    backend: str,
    case: Case,
    new_tokens: int = 1,
    mask: str | None = None,
    window: int = 0,
    calibrated: bool = False,
    dtype: mx.Dtype = mx.bfloat16,
    again: bool = False,
) -> Iterator[Finding]:
    """Take one decode step in place and compare what was written, and the result on those bytes.

    With `again` attend once more to what was written, as attention alone does.

    `mask` is None, "causal" or "array", a random one; `window` makes the cache a ring. Whatever no token lies in is
    poisoned, the new tokens' rows included: NaN scales must neither be seen nor left where the codes belong.
    """
    what = f"step {case.query_heads},{case.kv_heads},{case.head_dim} at {case.tokens:,} tokens, G = {case.group_size}"
    what += f", {new_tokens} new" * (new_tokens > 1) + f", {mask} mask" * (mask is not None)
    what += f", a ring of {window}" * (window > 0) + f", {dtype}" * (dtype != mx.bfloat16)
    codec = _codec(case.head_dim, case.group_size, case.kv_heads, calibrated)
    before = case.tokens - new_tokens
    seen = min(case.tokens, window) if window else case.tokens
    capacity = -(-seen // STEP_ROWS) * STEP_ROWS
    at = before % window if window else before
    row = mx.arange(capacity)[:, None]
    written = (row >= at) & (row < at + new_tokens)
    poisons = (mx.array(_STALE_WORD, mx.uint32), mx.array(float("nan"), mx.float16))
    codes, scales = (
        mx.where(written | (row >= seen), p, a) for p, a in zip(poisons, case.coded(capacity), strict=True)
    )
    untouched = [mx.where(written, 0, _bits(a)) for a in (codes, scales)]
    queries = _rows(case.query_heads, new_tokens, case.head_dim, dtype)
    keys, values = (_rows(case.kv_heads, new_tokens, case.head_dim, dtype) for _ in range(2))
    seen_by = _random_mask(new_tokens, seen) if mask == "array" else mask
    position = mx.full((fused.POSITION_SIZE,), before, mx.int32)
    mx.eval(codes, scales, untouched, position)
    result, following = fused.append_and_attend(
        codec, backend, queries, keys, values, codes, scales, position, case.tokens, case.scale, seen_by, window
    )
    mx.eval(result, following)
    new = slice(at, at + new_tokens)
    yield from _same_codes(what, codec, (codes[..., new, :], scales[..., new, :]), mx.stack([keys, values]))
    changed = [(mx.where(written, 0, _bits(a)) != b).sum() for a, b in zip((codes, scales), untouched, strict=True)]
    yield Finding(f"{what}: other codes and scales written", float(changed[0] + changed[1]), 0.0)
    yield Finding(f"{what}: next position off by", float(mx.abs(following[0] - case.tokens)), 0.0)
    attended = _on_cpu(
        reference.attend,
        codec,
        queries.astype(mx.float32),
        codes[..., :seen, :],
        scales[..., :seen, :],
        case.scale,
        seen_by,
    )
    plain = _relative(attended.astype(dtype), attended)
    yield Finding(f"{what}: relative error", _relative(result, attended), _TIMES_PLAIN * plain)
    if again:
        alone, _ = fused.attend(
            codec, backend, queries, codes, scales, following, case.tokens, case.scale, seen_by, window
        )
        yield Finding(f"{what}, attention alone: relative error", _relative(alone, attended), _TIMES_PLAIN * plain)


def _same_codes(what: str, codec: Codec, got: tuple[mx.array, mx.array], rows: mx.array) -> Iterator[Finding]:
    """Compare codes and scales with the reference's, and where another scale was chosen, the group's squared error."""
    right = _on_cpu(reference.quantize, codec, rows)
    errors = [_on_cpu(_group_errors, codec, coded, rows) for coded in (got, right)]
    got, right = ((reference.in_order(codec.layout, c), reference.in_order(codec.layout, s)) for c, s in (got, right))
    ratios = got[1].astype(mx.float32) / right[1].astype(mx.float32)
    chosen = mx.abs(ratios - 1) > 0.5 * _choices_apart()
    excess = mx.where(chosen, mx.abs(errors[0] / errors[1] - 1), 0)
    # Of a single token one group, or one code, is more than the share that is allowed.
    limit = max(MOST_DIFFERING_CHOICES, 1.0 / chosen.size)
    yield Finding(f"{what}: scales chosen otherwise", float(chosen.mean()), limit)
    yield Finding(f"{what}: difference in squared error there", float(excess.max()), _SAME_ERROR)
    same = mx.repeat(~chosen, codec.group_size // CODES_PER_WORD, axis=-1)[..., : codec.layout.words, None]
    apart = mx.abs(_nibbles(got[0]) - _nibbles(right[0])) * same
    yield Finding(f"{what}: codes off by one", float((apart == 1).mean()), max(MOST_DIFFERING_CODES, 1.0 / apart.size))
    yield Finding(f"{what}: codes off by more", float((apart > 1).mean()), 0.0)
    worst = mx.where(chosen, 0, mx.abs(ratios - 1)).max()
    yield Finding(f"{what}: largest relative error of a scale", float(worst), SCALE_ULP)


def _choices_apart() -> float:
    """Return the least relative distance of two of the scales that are tried."""
    ordered = sorted(SCALE_CHOICES)
    return min(b / a - 1 for a, b in itertools.pairwise(ordered))


def _group_errors(codec: Codec, coded: tuple[mx.array, mx.array], rows: mx.array) -> mx.array:
    """Return the squared error of each group of codes, in order. Shapes: `[2, B, Hk, L, N]`."""
    layout = codec.layout
    squared = (reference.unpack(layout, *coded) - reference.rotate(codec, rows)).square()
    padded = mx.pad(squared, [(0, 0)] * 4 + [(0, layout.padded_dim - layout.head_dim)])
    return padded.reshape(*padded.shape[:-1], layout.groups, layout.group_size).sum(axis=-1)


def _codec(head_dim: int, group_size: int, kv_heads: int, calibrated: bool = False) -> Codec:
    constants = mx.random.uniform(0.5, 1.5, (2, 2, kv_heads, head_dim)) if calibrated else [None, None]
    smooth = mx.random.uniform(0.5, 2.0, (kv_heads, head_dim)) if calibrated else None
    return Codec(Rotation(RotationKind.SRFT, head_dim, 0), group_size, constants[0], constants[1], smooth)


def _rows(heads: int, tokens: int, head_dim: int, dtype: mx.Dtype = mx.bfloat16) -> mx.array:
    """Return random rows `[1, heads, tokens, D]` as a model has them: a token's heads lie side by side."""
    made = mx.random.normal((1, tokens, heads, head_dim), dtype).transpose(0, 2, 1, 3)
    mx.eval(made)
    return made


def _random_mask(new_tokens: int, rows: int) -> mx.array:
    """Return a mask that hides a third of the rows, and of the new tokens each from those before it."""
    causal = mx.arange(rows - new_tokens, rows)[:, None] >= mx.arange(rows)
    return causal & (mx.random.uniform(shape=(new_tokens, rows)) > 1 / 3)


def _on_cpu(operation: Callable[..., T], *arguments: Any) -> T:
    """Run the reference on the CPU: MLX's CUDA backend multiplies float32 matrices in tf32."""
    with mx.stream(mx.cpu):
        result = operation(*arguments)
        mx.eval(result)
    return result


def _relative(got: mx.array, right: mx.array) -> float:
    got, right = got.astype(mx.float32), right.astype(mx.float32)
    return float(mx.linalg.norm(got - right) / mx.linalg.norm(right))


def _nibbles(codes: mx.array) -> mx.array:
    return ((codes[..., None] >> mx.arange(0, 32, 4, dtype=mx.uint32)) & 15).astype(mx.int32)


def _bits(a: mx.array) -> mx.array:
    """Return what compares bit by bit, NaN with itself too."""
    return a.view(mx.uint16) if a.dtype == mx.float16 else a
