"""The fused kernels' host side: which shapes they take, how they are cut into threadgroups, and their launches.

Shapes as in `kernels.reference`. Every function here expects that `reason_against` returned "".
"""

import functools
import math
from dataclasses import dataclass

import mlx.core as mx

from kernels import sources
from kernels.codec import Codec
from kernels.layout import SCALE_DTYPE
from kernels.rotation import RotationKind

HEAD_SIZES = (64, 128, 256)
"""Head sizes that attention is fused for; the other kernels take any even one."""
_FLOAT_TYPES = (mx.float16, mx.bfloat16, mx.float32)
_THREADGROUPS = 256
"""How many threadgroups the first pass aims at: about two for each core of a large GPU."""
_SPLIT_SIMDS = 4
_MERGE_SIMDS = 8
_MOST_BLOCKS = 128
_MOST_HEADS = 8
_THREADGROUP_BYTES = 32768
"""Threadgroup memory that every Apple GPU has."""


def reason_against(codec: Codec, query_heads: int, kv_heads: int, capacity: int, dtype: mx.Dtype) -> str:
    """Return why decode attention on these shapes is not fused, or ""."""
    if codec.rotation.kind is not RotationKind.SRFT:
        return f"no fused kernel for the rotation {codec.rotation.kind.value}"
    if codec.layout.head_dim not in HEAD_SIZES:
        return f"no fused kernel for head size {codec.layout.head_dim}"
    if dtype not in _FLOAT_TYPES:
        return f"no fused kernel for {dtype}"
    if not _possible_sets(query_heads // kv_heads, codec.layout.head_dim, 32):
        return f"no fused kernel for {query_heads // kv_heads} query heads a key/value head"
    if capacity % 32:
        return f"no fused kernel for a cache of {capacity} rows"
    return ""


@dataclass(frozen=True, slots=True)
class Split:
    """How the first pass is cut: `sets` threadgroups share a kv head's query heads, `blocks` its tokens."""

    sets: int
    tile: int
    blocks: int


@functools.lru_cache(maxsize=4096)
def split_for(query_heads: int, kv_heads: int, head_dim: int, tokens: int) -> Split:
    """Return the cut of the first pass: one rule for all shapes, from a scan of sets, tiles and blocks on an H200.

    Up to 2,048 tokens time is one threadgroup's latency: small tiles, every tile a threadgroup's own. Beyond, reading
    counts: tiles of 32 tokens, where the head size leaves registers for them. Query heads are spread over as many sets
    as leave the launch within its threadgroups, since each set reads the codes again.
    """
    heads = query_heads // kv_heads
    tile = 16 if tokens <= 2048 or head_dim == 256 else 32
    tiles = min(-(-tokens // (tile * _SPLIT_SIMDS)), _MOST_BLOCKS)
    choices = _possible_sets(heads, head_dim, tile)
    sets = max((n for n in choices if kv_heads * n * tiles <= _THREADGROUPS), default=choices[0])
    # Long caches of many heads hide more latency with twice the threadgroups.
    most = _THREADGROUPS * (2 if tokens > 32768 else 1)
    return Split(sets, tile, max(1, min(tiles, most // (kv_heads * sets))))


def splits_for(query_heads: int, kv_heads: int, head_dim: int) -> list[Split]:
    """Return one cut of every kind that `split_for` gives these heads over all lengths: each is compiled apart."""
    kinds: dict[tuple[int, int], Split] = {}
    for tokens in (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072):
        split = split_for(query_heads, kv_heads, head_dim, tokens)
        kinds.setdefault((split.sets, split.tile), split)
    return list(kinds.values())


def _possible_sets(heads: int, head_dim: int, tile: int) -> list[int]:
    """Return the numbers of sets that `heads` query heads can be cut into, fewest first."""
    return [
        n
        for n in range(1, heads + 1)
        if heads % n == 0
        and heads // n <= _MOST_HEADS
        and _split_bytes(heads // n, head_dim, tile) <= _THREADGROUP_BYTES
    ]


def _split_bytes(heads: int, head_dim: int, tile: int) -> int:
    """Return the threadgroup memory of the first pass, as attend_split.metal lays it out, with groups of 32."""
    packs = 4 * heads * (head_dim // 32) + _SPLIT_SIMDS * tile * (head_dim // 32) * -(-heads // 8)
    return 16 * packs + 4 * (2 * _SPLIT_SIMDS * heads) + 4 * (_SPLIT_SIMDS * heads * head_dim)


def quantize(codec: Codec, backend: str, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
    """Code keys and values in one launch."""
    B, Hk, L, D = keys.shape
    codes, scales = sources.launch(
        sources.APPEND,
        backend,
        [mx.contiguous(keys), mx.contiguous(values), codec.table()],
        [("T", keys.dtype), *_row_template(codec), ("HQ", 0), ("HK", Hk)],
        (2 * Hk, L, B),
        _threads(D),
        _coded(codec, B, Hk, L),
    )
    return codes, scales


def quantize_and_rotate(
    codec: Codec, backend: str, queries: mx.array, keys: mx.array, values: mx.array, scale: float
) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """Code keys and values and rotate the queries in one launch.

    Returns codes, scales, rotated queries (abs-max 1) `[B, Hq, L, D]` float32 and their factors `[B, Hq, L]`.
    """
    B, Hq, L, D = queries.shape
    Hk = keys.shape[1]
    codes, scales, rotated, factors = sources.launch(
        sources.APPEND_AND_ROTATE,
        backend,
        [*(mx.contiguous(a) for a in (queries, keys, values)), codec.table(scale * math.log2(math.e))],
        [("T", keys.dtype), *_row_template(codec), ("HQ", Hq), ("HK", Hk)],
        (Hq + 2 * Hk, L, B),
        _threads(D),
        [*_coded(codec, B, Hk, L), ((B, Hq, L, D), mx.float32), ((B, Hq, L), mx.float32)],
    )
    return codes, scales, rotated, factors


def attend(
    codec: Codec,
    backend: str,
    rotated: mx.array,
    factors: mx.array,
    codes: mx.array,
    scales: mx.array,
    tokens: int,
    dtype: mx.Dtype,
    split: Split | None = None,
) -> mx.array:
    """Attend one query token on the first `tokens` rows of whole buffers. Returns `[B, Hq, 1, D]` of `dtype`.

    `split` is `split_for`'s cut unless another one is to be tried.
    """
    B, Hq, _, D = rotated.shape
    Hk = codes.shape[2]
    split = split or split_for(Hq, Hk, D, tokens)
    sums, parts = sources.launch(
        sources.ATTEND_SPLIT,
        backend,
        [rotated, factors, codes, scales, scales[0, 0, 0, :tokens, 0]],
        [
            ("D", D),
            ("G", codec.group_size),
            ("HK", Hk),
            ("SETS", split.sets),
            ("HEADS", Hq // Hk // split.sets),
            ("TILE", split.tile),
            ("SIMDS", _SPLIT_SIMDS),
        ],
        (split.blocks, Hk * split.sets, B),
        _SPLIT_SIMDS * 32,
        [((B, Hq, split.blocks, D), mx.float32), ((B, Hq, split.blocks, 2), mx.float32)],
    )
    (result,) = sources.launch(
        sources.ATTEND_MERGE,
        backend,
        [sums, parts, codec.table()],
        [
            ("T", dtype),
            ("D", D),
            ("N1", _first_factor(D)),
            ("MU", codec.mu is not None),
            ("LAMBDA", codec.lam is not None),
            ("HQ", Hq),
            ("HK", Hk),
            ("SIMDS", _MERGE_SIMDS),
            ("MAX_BLOCKS", 32 * -(-split.blocks // 32)),
        ],
        (Hq, B, 1),
        _MERGE_SIMDS * 32,
        [((B, Hq, 1, D), dtype)],
    )
    return result


def dequantize(codec: Codec, backend: str, codes: mx.array, scales: mx.array, dtype: mx.Dtype) -> mx.array:
    """Expand codes in one launch. Returns `[2, B, Hk, S, D]` of `dtype`."""
    _, B, Hk, S, _ = codes.shape
    D = codec.layout.head_dim
    (expanded,) = sources.launch(
        sources.DEQUANTIZE,
        backend,
        [mx.contiguous(codes), mx.contiguous(scales), codec.table()],
        [("T", dtype), *_row_template(codec), ("HK", Hk)],
        (S, Hk, 2 * B),
        _threads(D),
        [((2, B, Hk, S, D), dtype)],
    )
    return expanded


def _row_template(codec: Codec) -> list[tuple[str, object]]:
    D = codec.layout.head_dim
    return [
        ("D", D),
        ("G", codec.group_size),
        ("N1", _first_factor(D)),
        ("THREADS", _threads(D)),
        ("MU", codec.mu is not None),
        ("LAMBDA", codec.lam is not None),
    ]


def _coded(codec: Codec, B: int, Hk: int, L: int) -> list[tuple[tuple[int, ...], mx.Dtype]]:
    layout = codec.layout
    return [((2, B, Hk, L, layout.words), mx.uint32), ((2, B, Hk, L, layout.groups), SCALE_DTYPE)]


def _threads(head_dim: int) -> int:
    return 32 * -(-head_dim // 32)


@functools.cache
def _first_factor(head_dim: int) -> int:
    """Return the even divisor of the head size that leaves the least work: the one nearest its square root."""
    divisors = [n for n in range(2, head_dim + 1, 2) if head_dim % n == 0]
    return min(divisors, key=lambda n: (n + head_dim // n, n))
