"""Every operation in plain MLX, float32 inside: the definition of correct, and the path that runs without a kernel.

`B` batch, `Hq` query heads, `Hk` key/value heads, `L` new tokens, `S` cached tokens, `D` head size, `G` group size,
`W` words and `N` scales of a row (`kernels.layout`). Keys and values travel together: index 0 of the first axis is K.

A group that holds NaN or infinity, or a value beyond some 458,000, whose scale float16 cannot hold, gets a NaN scale:
whatever reads it is NaN, never something that looks like a result. A group of zeros gets scale 0 and codes 0.
"""

import mlx.core as mx

from kernels.codec import Codec
from kernels.layout import (
    BITS,
    CODE_OFFSET,
    CODES_PER_WORD,
    MAX_CODE,
    MIN_CODE,
    SCALE_CHOICES,
    SCALE_DTYPE,
    SMALLEST_TRIED,
    ZERO_WORD,
    Layout,
)

MAX_QUERIES = 8
"""Most query tokens that are attended on the codes; longer chunks are prefill and use their exact keys and values."""


def quantize(codec: Codec, keys_values: mx.array) -> tuple[mx.array, mx.array]:
    """Code rows.

    Shapes: `[2, B, Hk, L, D]` to codes `[2, B, Hk, L, W]` uint32 and scales `[2, B, Hk, L, N]` float16.
    """
    return pack(codec.layout, rotate(codec, keys_values))


def rotate(codec: Codec, keys_values: mx.array) -> mx.array:
    """Return the values that are rounded to codes. Shapes: `[2, B, Hk, L, D]` to the same in float32."""
    rows = keys_values.astype(mx.float32)
    if codec.mu is not None:
        rows = rows - _per_head(codec.mu)
    if codec.smooth is not None:
        rows = rows / _of_keys(codec.smooth)
    rows = codec.rotation.apply(rows)
    if codec.lam is not None:
        rows = rows * _per_head(codec.lam)
    return rows


def dequantize(codec: Codec, codes: mx.array, scales: mx.array, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
    """Undo `quantize`, up to the rounding: keys and values, `[B, Hk, S, D]` of `dtype` each. Shapes: as `quantize`."""
    keys = _dequantize_rows(codec, 0, _half(codes, 0), _half(scales, 0), dtype)
    # The values wait for the keys, so that float32 rows of only one of them are in memory at a time.
    codes, scales = mx.depends([codes, scales], [keys])
    return keys, _dequantize_rows(codec, 1, _half(codes, 1), _half(scales, 1), dtype)


def pack(layout: Layout, rows: mx.array) -> tuple[mx.array, mx.array]:
    """Round rows to codes as they are. Shapes: `[..., D]` float32 to `[..., W]` uint32 and `[..., N]` float16."""
    lead = rows.shape[:-1]
    padding = layout.padded_dim - layout.head_dim
    if padding:
        rows = mx.pad(rows, [(0, 0)] * len(lead) + [(0, padding)])
    codes, scales = round_groups(rows.reshape(*lead, layout.groups, layout.group_size))
    nibbles = (codes + CODE_OFFSET).astype(mx.uint32).reshape(*lead, layout.padded_words, CODES_PER_WORD)
    shifts = mx.arange(0, 32, BITS, dtype=mx.uint32)
    words = (nibbles[..., : layout.words, :] << shifts).sum(axis=-1)
    return interleave(layout, words), interleave(layout, scales)


def interleave(layout: Layout, row: mx.array) -> mx.array:
    """Bring words or scales into the order in which they are stored. Shapes: `[..., W]` or `[..., N]`, to the same."""
    return _transposed(row, layout.units)


def in_order(layout: Layout, row: mx.array) -> mx.array:
    """Undo `interleave`. Shapes: `[..., W]` or `[..., N]`, to the same."""
    return _transposed(row, row.shape[-1] // layout.units)


def round_groups(groups: mx.array, choices: tuple[float, ...] = SCALE_CHOICES) -> tuple[mx.array, mx.array]:
    """Round groups to codes by the best of the scales that `choices` names, as in `kernels.layout`.

    Best is the least squared error in float32, and of equal ones, or below `SMALLEST_TRIED`, the first.

    Shapes: `[..., G]` float32 to codes `[..., G]` float32 and scales `[...]` float16.
    """
    low, high = groups.min(axis=-1), groups.max(axis=-1)
    whole = mx.where(-low >= high, low, high) / MIN_CODE
    tried = (whole[..., None] * mx.array(choices)).astype(SCALE_DTYPE)
    steps = tried.astype(mx.float32)[..., None]
    values = groups[..., None, :]
    # Comparisons with NaN are false, so a NaN scale takes the zero codes too.
    codes = mx.where(mx.abs(steps) > 0, mx.clip(mx.round(values / steps), MIN_CODE, MAX_CODE), 0)
    errors = (values - codes * steps).square().sum(axis=-1)
    # A scale that float16 cannot hold makes a NaN.
    best = mx.where(mx.isnan(errors), mx.inf, errors).argmin(axis=-1, keepdims=True)
    best = mx.where(mx.abs(tried[..., :1]) < SMALLEST_TRIED, 0, best)
    codes = mx.take_along_axis(codes, best[..., None], axis=-2)[..., 0, :]
    scales = mx.take_along_axis(tried, best, axis=-1)[..., 0]
    holds = mx.isfinite(tried[..., 0])
    return mx.where(holds[..., None], codes, 0), mx.where(holds, scales, mx.array(float("nan"), SCALE_DTYPE))


def unpack(layout: Layout, codes: mx.array, scales: mx.array) -> mx.array:
    """Return `scale * code`. Shapes: `[..., W]` uint32 and `[..., N]` float16 to `[..., D]` float32."""
    scales = in_order(layout, scales).astype(mx.float32)
    rows = mx.dequantize(
        _whole_groups(layout, codes), scales, scales * -CODE_OFFSET, group_size=layout.group_size, bits=BITS
    )
    return rows[..., : layout.head_dim]


def attend(
    codec: Codec, queries: mx.array, codes: mx.array, scales: mx.array, scale: float, mask: mx.array | str | None
) -> mx.array:
    """Attend on the codes: no key or value is ever expanded.

    With q' = R(smooth * q) / lambda_K a score is `q' . (scale * code)`: rotations keep inner products, and mu_K shifts
    all of a query's scores alike, which softmax does not see. The weighted sum of coded values is un-rotated once, and
    mu_V is added back (the weights sum to one).

    Shapes: queries `[B, Hq, L, D]`; codes `[2, B, Hk, S, W]`; scales `[2, B, Hk, S, N]`; mask None, "causal", or an
    array (bool: attend; float: added) that broadcasts to `[B, Hq, L, S]`. Returns `[B, Hq, L, D]` of the queries' type.
    """
    layout = codec.layout
    B, Hq, L, D = queries.shape
    Hk, S = codes.shape[2:4]
    grouped = (queries.astype(mx.float32) * scale).reshape(B, Hk, (Hq // Hk) * L, D)
    if codec.smooth is not None:
        grouped = grouped * codec.smooth[None, :, None, :]
    rotated = codec.rotation.apply(grouped)
    if codec.lam is not None:
        rotated = rotated / codec.lam[0][None, :, None, :]
    if layout.padded_dim != D:
        rotated = mx.pad(rotated, [(0, 0), (0, 0), (0, 0), (0, layout.padded_dim - D)])
    scores = _coded_matmul(layout, rotated, _half(codes, 0), _half(scales, 0), transpose=True)
    weights = mx.softmax(_masked(scores.reshape(B, Hq, L, S), mask), axis=-1, precise=True)
    # The values wait for the weights, so that words in order of only one of the two are in memory at a time.
    value_codes, value_scales = mx.depends([_half(codes, 1), _half(scales, 1)], [weights])
    summed = _coded_matmul(layout, weights.reshape(B, Hk, -1, S), value_codes, value_scales, transpose=False)[..., :D]
    if codec.lam is not None:
        summed = summed / codec.lam[1][None, :, None, :]
    out = codec.rotation.invert(summed)
    if codec.mu is not None:
        out = out + codec.mu[1][None, :, None, :]
    return out.reshape(B, Hq, L, D).astype(queries.dtype)


def _dequantize_rows(codec: Codec, which: int, codes: mx.array, scales: mx.array, dtype: mx.Dtype) -> mx.array:
    rows = unpack(codec.layout, codes, scales)
    if codec.lam is not None:
        rows = rows / codec.lam[which][None, :, None, :]
    rows = codec.rotation.invert(rows)
    if codec.smooth is not None and which == 0:
        rows = rows * codec.smooth[None, :, None, :]
    if codec.mu is not None:
        rows = rows + codec.mu[which][None, :, None, :]
    return rows.astype(dtype)


def _per_head(constant: mx.array) -> mx.array:
    """Shapes: `[2, Hk, D]` to `[2, 1, Hk, 1, D]`."""
    return constant[:, None, :, None, :]


def _of_keys(smooth: mx.array) -> mx.array:
    """Return the factors of keys, and 1 for values. Shapes: `[Hk, D]` to `[2, 1, Hk, 1, D]`."""
    return _per_head(mx.stack([smooth, mx.ones_like(smooth)]))


def _coded_matmul(layout: Layout, x: mx.array, codes: mx.array, scales: mx.array, *, transpose: bool) -> mx.array:
    scales = in_order(layout, scales).astype(mx.float32)
    return mx.quantized_matmul(
        x,
        _whole_groups(layout, codes),
        scales,
        scales * -CODE_OFFSET,
        transpose=transpose,
        group_size=layout.group_size,
        bits=BITS,
    )


def _whole_groups(layout: Layout, codes: mx.array) -> mx.array:
    """Return the words in order, a shorter last group filled up with zero codes: MLX's operations read whole groups."""
    codes = in_order(layout, codes)
    missing = layout.padded_words - layout.words
    if not missing:
        return codes
    return mx.concatenate([codes, mx.full((*codes.shape[:-1], missing), ZERO_WORD, mx.uint32)], axis=-1)


def _half(keys_values: mx.array, which: int) -> mx.array:
    """Return keys (0) or values (1) as a view; MLX copies what an index by a number takes."""
    return keys_values[which : which + 1].squeeze(0)


def _transposed(row: mx.array, rows: int) -> mx.array:
    """Take each row for a matrix of `rows` rows, and transpose it."""
    if rows in (1, row.shape[-1]):
        return row
    return row.reshape(*row.shape[:-1], rows, -1).swapaxes(-1, -2).reshape(row.shape)


def _masked(scores: mx.array, mask: mx.array | str | None) -> mx.array:
    if mask is None:
        return scores
    if isinstance(mask, str):
        if mask != "causal":
            raise ValueError(f"[attend] mask must be an array, None or 'causal', got {mask!r}.")
        L, S = scores.shape[-2:]
        mask = mx.arange(S - L, S)[:, None] >= mx.arange(S)
    if mask.dtype == mx.bool_:
        return mx.where(mask, scores, -mx.inf)
    return scores + mask.astype(mx.float32)
