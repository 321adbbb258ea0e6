"""The constants that each lane of the fused step needs to rotate a row, in the order in which it reads them.

A lane needs 14 to 36 cosines, sines and signs from all over the table. Here each lane's own stand ready in loads of 16
bytes, the lanes of all SIMD-groups that share a row side by side. The order within a lane is that of
`kernels/metal/srft_lanes.h`, which also says how a row is spread over lanes and SIMD-groups.
"""

import functools
import math
from dataclasses import dataclass

import mlx.core as mx

HEAD_SIZES = (64, 80, 96, 128, 192, 256)
"""Head sizes that SIMD-groups rotate in registers."""
_SIMD_LANES = 32
_FLOATS = 4
"""Numbers of one load."""


def lane_constants(signs: mx.array) -> mx.array:
    """Return first what a forward transform needs, then an inverse. Shapes: signs `[D]` float32 to `[n]` float32.

    Expects a head size of `HEAD_SIZES`.
    """
    dim = signs.shape[0]
    pool = mx.concatenate([circle(dim), -circle(dim)[dim:], signs])
    return mx.take(pool, _places(dim))


@functools.cache
def circle(dim: int) -> mx.array:
    """Return cosines, then sines of 2 pi n / dim. Shapes: `[2 dim]` float32."""
    angles = [2.0 * math.pi * n / dim for n in range(dim)]
    made = mx.array([f(angle) for f in (math.cos, math.sin) for angle in angles])
    mx.eval(made)  # cached: a lazy array may not cross threads
    return made


@dataclass(frozen=True, slots=True)
class _Spread:
    """How a row is spread: `points` complex numbers in each of `lanes` lanes."""

    dim: int
    lanes: int
    points: int

    @classmethod
    def of(cls, dim: int) -> "_Spread":
        lanes = 32 if dim % 64 == 0 else 16 if dim % 32 == 0 else 8
        return cls(dim, lanes, dim // 2 // lanes)

    def forward(self, parts: int, part: int, lane: int) -> list[int]:
        """Return the places of one lane's numbers, where `parts` SIMD-groups share a row."""
        at = lane % self.lanes
        results = range(part, self.points, parts)
        halves = [self.points * self._mirrored(at) + j for j in results]
        signs = [3 * self.dim + 2 * self.lanes * j + 2 * at + i for j in range(self.points) for i in range(2)]
        return [*self._with_sines(self._turns(results, at) + halves), *signs]

    def inverse(self, parts: int, part: int, lane: int) -> list[int]:
        at = lane % self.lanes
        results = range(part, self.points, parts)
        halves = [sign * self.dim + self.lanes * j + at for sign in range(2) for j in range(self.points)]
        signs = [3 * self.dim + 2 * (self.points * self._mirrored(at) + j) + i for j in results for i in range(2)]
        return [*self._with_sines(self._turns(results, at)), *halves, *signs]

    def _turns(self, results: range, at: int) -> list[int]:
        """Return the turns of the small transform's results, then of the steps across lanes."""
        masks = [self.lanes >> i for i in range(1, self.lanes.bit_length() - 1)]
        across = [(at & (mask - 1)) * (self.lanes // mask) * self.points if at & mask else 0 for mask in masks]
        return [*(2 * at * j for j in results), *across]

    def _with_sines(self, turns: list[int]) -> list[int]:
        """Return the cosines of turns, then their -sines."""
        return [*turns, *(2 * self.dim + turn for turn in turns)]

    def _mirrored(self, at: int) -> int:
        return int(f"{at:0{self.lanes.bit_length() - 1}b}"[::-1], 2)


@functools.cache
def _places(dim: int) -> mx.array:
    """Return where in cos, sin, -sin and signs, `dim` of each, every number stands. Shapes: `[n]` int32."""
    spread = _Spread.of(dim)
    even = spread.points % 2 == 0
    forward_parts, inverse_parts = (2, spread.points) if even else (1, 1)
    forward = [
        spread.forward(forward_parts, part, lane) for part in range(forward_parts) for lane in range(_SIMD_LANES)
    ]
    inverse = [
        spread.inverse(inverse_parts, part, lane) for part in range(inverse_parts) for lane in range(_SIMD_LANES)
    ]
    made = mx.array([*_side_by_side(forward), *_side_by_side(inverse)], mx.int32)
    mx.eval(made)
    return made


def _side_by_side(lanes: list[list[int]]) -> list[int]:
    """Return the first load of all lanes, then the second one of all, ..., the last one filled up."""
    loads = -(-len(lanes[0]) // _FLOATS)
    padded = [lane + [0] * (loads * _FLOATS - len(lane)) for lane in lanes]
    return [place for i in range(loads) for lane in padded for place in lane[i * _FLOATS : (i + 1) * _FLOATS]]
