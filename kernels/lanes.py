"""The constants that each lane of the fused step needs to rotate a row, in the order in which it reads them.

A lane needs some 20 cosines, sines and signs from all over the table. Gathered one by one they cost more time than the
tile of a short context; here each lane's own stand ready in loads of 16 bytes, 32 lanes side by side. The order within
a lane is that of `kernels/metal/srft_lanes.h`.
"""

import functools
import math

import mlx.core as mx

HEAD_SIZES = (64, 128, 256)
"""Head sizes that SIMD-groups rotate in registers."""
_FLOATS = 4
"""Numbers of one load."""


def lane_constants(signs: mx.array) -> mx.array:
    """Return first what a forward transform needs, then an inverse. Shapes: signs `[D]` float32 to `[n]` float32.

    Expects a head size of `HEAD_SIZES`.
    """
    dim = signs.shape[0]
    circle = [2.0 * math.pi * n / dim for n in range(dim)]
    cosines, sines = ([f(angle) for angle in circle] for f in (math.cos, math.sin))
    pool = mx.concatenate([mx.array([*cosines, *sines, *(-s for s in sines)]), signs])
    return mx.take(pool, mx.array(_places(dim)))


@functools.cache
def _places(dim: int) -> tuple[int, ...]:
    """Return where in cos, sin, -sin and signs, `dim` of each, every number stands."""
    words = dim // 64
    shared = min(2, words)
    forward = [_forward(dim, shared, part, lane) for part in range(shared) for lane in range(32)]
    inverse = [_inverse(dim, part, lane) for part in range(words) for lane in range(32)]
    return (*_side_by_side(forward), *_side_by_side(inverse))


def _forward(dim: int, shared: int, part: int, lane: int) -> list[int]:
    """Return the places of one lane's numbers, where `shared` SIMD-groups share a row."""
    words = dim // 64
    signs = [3 * dim + 64 * j + 2 * lane + i for j in range(words) for i in range(2)]
    return [*_twiddles(dim, range(part, words, shared), lane), *signs]


def _inverse(dim: int, part: int, lane: int) -> list[int]:
    words = dim // 64
    halves = [sign * dim + 32 * j + lane for sign in range(2) for j in range(words)]
    first = 2 * (words * _mirrored(lane) + part)
    return [*_twiddles(dim, range(part, part + 1), lane), *halves, 3 * dim + first, 3 * dim + first + 1]


def _twiddles(dim: int, results: range, lane: int) -> list[int]:
    """Return the cosines of the small transform's results, the steps across lanes, the halves; then all -sines."""
    words = dim // 64
    masks = (16, 8, 4, 2)
    across = [(lane & (mask - 1)) * (32 // mask) * words if lane & mask else 0 for mask in masks]
    turns = [*(2 * lane * j for j in results), *across, *(words * _mirrored(lane) + j for j in results)]
    return [*turns, *(2 * dim + turn for turn in turns)]


def _mirrored(lane: int) -> int:
    return int(f"{lane:05b}"[::-1], 2)


def _side_by_side(lanes: list[list[int]]) -> list[int]:
    """Return the first load of all lanes, then the second one of all, ..., the last one filled up."""
    loads = -(-len(lanes[0]) // _FLOATS)
    padded = [lane + [0] * (loads * _FLOATS - len(lane)) for lane in lanes]
    return [place for i in range(loads) for lane in padded for place in lane[i * _FLOATS : (i + 1) * _FLOATS]]
