"""The fused decode step's host side: which shapes it takes, and its launches. Shapes as in `kernels.reference`."""

import functools
import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from kernels.codec import Codec
from kernels.cuts import Cut, cut_for
from kernels.lanes import HEAD_SIZES
from kernels.reference import MAX_QUERIES
from kernels.rotation import RotationKind
from kernels.sources import Source, launch, resident

FLOAT_TYPES = (mx.float16, mx.bfloat16)
"""Types that the step is fused for: its products are of halves, whose rounding these have anyway."""
POSITION_SIZE = 4
"""Elements of a step's position, of which the first counts: MLX's CUDA backend keeps arrays of up to eight bytes in
memory that it shares with the host, where every threadgroup would wait some 4 us for it."""
_TILE_ROWS = 32
_MOST_WORDS = 2**31
"""Words of codes in a layer's cache; the kernel counts them in 32 bits."""
_ATTEND_HEADERS = (
    "numbers.h",
    "codes.h",
    "words.h",
    "matrices.h",
    "srft_lanes.h",
    "tiles.h",
    "softmax.h",
    "new_rows.h",
    "sums.h",
)
_MERGE_HEADERS = ("neighbours.h", "srft_lanes.h")
_INPUTS = ("queries", "keys", "values", "codes", "scales", "position", "table")
_Step = Callable[..., tuple[mx.array, mx.array]]
"""From `_INPUTS`, and the mask where there is one, to the result and the next position."""


def reason_against(
    codec: Codec,
    queries: mx.array,
    kv_heads: int,
    capacity: int,
    mask: mx.array | str | None,
    window: int,
) -> str:
    """Return why a step of these shapes is not fused, or ""."""
    B, _, L, D = queries.shape
    if codec.rotation.kind is not RotationKind.SRFT:
        return f"no fused kernel for the rotation {codec.rotation.kind.value}"
    if D not in HEAD_SIZES:
        return f"no fused kernel for head size {D}"
    if queries.dtype not in FLOAT_TYPES:
        return f"no fused kernel for {queries.dtype}"
    if L > MAX_QUERIES:
        return f"more than {MAX_QUERIES} new tokens"
    if window and L > 1:
        return "more than one new token in a sliding window"
    if capacity % _TILE_ROWS:
        return f"no fused kernel for a cache of {capacity} rows"
    if 2 * B * kv_heads * capacity * codec.layout.words >= _MOST_WORDS:
        return f"no fused kernel for a cache of {capacity} rows in {B * kv_heads} heads"
    if isinstance(mask, mx.array):
        if mask.dtype != mx.bool_:
            return "the model adds a mask of numbers"
        if mask.size != L * mask.shape[-1]:
            return "the model masks heads or batches apart"
    return ""


def append_and_attend(
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
    """Code new tokens into whole buffers IN PLACE and attend on all; see `kernels.dispatch.append_and_attend`.

    `cut` is `cut_for`'s unless another one is to be tried. Expects that `reason_against` returned "", and buffers that
    are row-contiguous: of others MLX would have a copy written.
    """
    step = _chosen(codec, backend, queries, keys.shape[1], tokens, mask, window, cut, coded=False)
    return step(queries, keys, values, codes, scales, position, *_constants(codec, scale, queries, mask))


def attend(
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
    cut: Cut | None = None,
) -> tuple[mx.array, mx.array]:
    """Attend on whole buffers that hold the new tokens already, which `position` counts; it is returned as it is.

    Otherwise as `append_and_attend`.
    """
    step = _chosen(codec, backend, queries, codes.shape[2], tokens, mask, window, cut, coded=True)
    return step(queries, queries, queries, codes, scales, position, *_constants(codec, scale, queries, mask))


def _constants(codec: Codec, scale: float, queries: mx.array, mask: mx.array | str | None) -> list[mx.array]:
    """Return the table, and the mask where there is one, a row of bool for each new token."""
    masks = [mx.contiguous(mask.reshape(queries.shape[2], -1))] if isinstance(mask, mx.array) else []
    return [codec.table(scale * math.log2(math.e)), *masks]


def _chosen(
    codec: Codec,
    backend: str,
    queries: mx.array,
    Hk: int,
    tokens: int,
    mask: mx.array | str | None,
    window: int,
    cut: Cut | None,
    *,
    coded: bool,
) -> _Step:
    B, Hq, L, D = queries.shape
    rows = min(tokens, window) if window else tokens
    return _step(
        backend,
        mx.fast.metal_kernel,
        (B, Hq, Hk, L, D),
        codec.group_size,
        codec.mu is not None,
        codec.lam is not None,
        codec.smooth is not None,
        queries.dtype,
        isinstance(mask, mx.array),
        window,
        cut or cut_for(backend, Hq // Hk * L, Hk, D, rows),
        coded,
    )


@functools.lru_cache(maxsize=1024)
def _step(
    backend: str,
    metal_kernel: Any,
    shape: tuple[int, int, int, int, int],
    group_size: int,
    centred: bool,
    scaled: bool,
    smoothed: bool,
    dtype: mx.Dtype,
    masked: bool,
    window: int,
    cut: Cut,
    coded: bool,
) -> _Step:
    """Return what builds a step of one or two launches; kept, because one is built for every token and layer.

    It is compiled by MLX, which then repeats the graph of the first one: that costs the host half of what two calls of
    custom kernels do. `metal_kernel` is part of the key because the tests put the emulator in its place.
    """
    B, Hq, Hk, L, D = shape
    vectors = Hq // Hk * L
    next_position = ((POSITION_SIZE,), mx.int32)
    result = ((B, Hq, L, D), dtype)
    constants = [("T", dtype), ("D", D), ("MU", centred), ("LAMBDA", scaled), ("SMOOTH", smoothed), ("HK", Hk)]
    partial = [((B, Hq * L, cut.blocks, D), mx.float32), ((B, Hq * L, cut.blocks, 2), mx.float32)]
    threads = cut.simds * 32
    attend = launch(
        Source(
            f"nibble_attend{'_whole' * cut.whole}{'_masked' * masked}",
            "attend.metal",
            _ATTEND_HEADERS,
            (*_INPUTS, "mask") if masked else _INPUTS,
            ("result", "next") if cut.whole else ("sums", "parts", "next"),
            (
                ("WHOLE", int(cut.whole)),
                ("MASKED", int(masked)),
                *resident(threads, cut.resident(D)),
            ),
            row_contiguous=True,
        ),
        backend,
        [
            *constants,
            ("G", group_size),
            ("B", B),
            ("SETS", cut.sets),
            ("HEADS", vectors // cut.sets),
            ("L", L),
            ("SIMDS", cut.simds),
            ("SINGLE", cut.single),
            ("SHARERS", cut.sharers),
            ("CODED", coded),
            ("WINDOW", window),
        ],
        (cut.blocks, Hk * cut.sets, B),
        threads,
        [result, next_position] if cut.whole else [*partial, next_position],
    )
    simds = cut.merge_simds(backend)
    merge = launch(
        Source(
            "nibble_attend_merge",
            "attend_merge.metal",
            _MERGE_HEADERS,
            ("sums", "parts", "table"),
            ("result",),
            resident(simds * 32, 1),
        ),
        backend,
        [*constants, ("VECTORS", Hq * L), ("SIMDS", simds), ("MAX_BLOCKS", cut.merged_blocks)],
        (Hq * L, B, 1),
        simds * 32,
        [result],
    )

    def step(*inputs: mx.array) -> tuple[mx.array, mx.array]:
        *made, following = attend(list(inputs))
        if not cut.whole:
            made = merge([*made, inputs[_INPUTS.index("table")]])
        return made[0], following

    return mx.compile(step)
