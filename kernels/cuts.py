"""How a decode step is cut into threadgroups: one rule for all shapes, with one set of numbers for each GPU family.

A step's query vectors (query heads of a key/value head, times new tokens) are spread over `sets` threadgroups, which
each read the codes; its tokens over `blocks`. One block needs no second pass: the step is one launch.
"""

import functools
from dataclasses import dataclass, replace

THREADGROUP_BYTES = 32768
"""Threadgroup memory that every Apple GPU has."""
MOST_BLOCKS = 128
_MOST_HEADS = 8
_SIMDS = 4
_TILE_LATENCY = 16
_TILE_THROUGHPUT = 32
_LATENCY_BLOCKS = 32


@dataclass(frozen=True, slots=True)
class Tuning:
    """What suits one family of GPUs.

    Up to `whole_tokens` a step is one launch, of threadgroups with `whole_simds` SIMD-groups, one of which takes the
    new token. Beyond, threadgroups have four (MLX's own vector attention has as many threads), and a launch has at
    most `threadgroups` of them. Up to `latency_rows` rows of all key/value heads together, time is one threadgroup's
    latency: tiles are small, and as many as there are workers. Beyond, reading counts: larger tiles where the head
    size leaves registers for them, two at least for each worker.
    """

    whole_tokens: int
    whole_simds: int
    latency_rows: int
    threadgroups: int


TUNINGS = {
    # An H200, two threadgroups for each of its 132 cores; from `python -m kernels.bench --tune`.
    "cuda": Tuning(whole_tokens=256, whole_simds=9, latency_rows=8192, threadgroups=264),
    # Not measured. `python -m kernels.bench --tune` on a Mac says better.
    "metal": Tuning(whole_tokens=256, whole_simds=9, latency_rows=8192, threadgroups=264),
}


@dataclass(frozen=True, slots=True)
class Cut:
    """How a step is cut: `sets` threadgroups share a kv head's query vectors, `blocks` its tokens.

    A threadgroup has `simds` SIMD-groups, each of which takes tiles of `tile` tokens.
    """

    sets: int
    tile: int
    simds: int
    blocks: int

    @property
    def whole(self) -> bool:
        """Whether one launch does it all."""
        return self.blocks == 1

    @property
    def merged_blocks(self) -> int:
        """How many partial sums the second pass is compiled for."""
        return _LATENCY_BLOCKS if self.blocks <= _LATENCY_BLOCKS else MOST_BLOCKS

    @property
    def kind(self) -> "Cut":
        """The cut that stands for all that run the same compiled kernels."""
        return self if self.whole else replace(self, blocks=self.merged_blocks)

    def resident(self, vectors: int, head_dim: int) -> int:
        """Return how many threadgroups an NVIDIA core is to hold: as many as its registers allow without spilling."""
        if self.whole:
            return 1
        heads = vectors // self.sets
        if heads <= 4:
            return 3 if head_dim == 256 else 4
        return 3 if heads <= 6 and head_dim < 256 else 2


@functools.lru_cache(maxsize=16384)
def cut_for(backend: str, vectors: int, kv_heads: int, head_dim: int, tokens: int) -> Cut:
    """Return the cut of a step in which `vectors` query vectors share each key/value head, at `tokens` cached tokens.

    Query vectors are spread over as many sets as leave the launch within its threadgroups, since each set reads the
    codes again.
    """
    tuning = TUNINGS[backend]
    whole = Cut(vectors, _TILE_LATENCY, tuning.whole_simds, 1)
    if tokens <= tuning.whole_tokens and fits(whole, vectors, head_dim):
        return whole
    latency = tokens * kv_heads <= tuning.latency_rows
    tile = _TILE_LATENCY if latency or head_dim == 256 else _TILE_THROUGHPUT
    tiles = -(-tokens // tile)
    blocks = min(-(-(tiles + 1) // _SIMDS), _LATENCY_BLOCKS) if latency else min(-(-tiles // (2 * _SIMDS)), MOST_BLOCKS)
    blocks = max(2, blocks)
    choices = [n for n in _divisors(vectors) if fits(Cut(n, tile, _SIMDS, blocks), vectors, head_dim)]
    # One threadgroup too many for the cores costs as much as a whole round, so blocks give way, by sixteens.
    sets = max((n for n in choices if kv_heads * n * (blocks & ~1) <= tuning.threadgroups), default=choices[0])
    most = tuning.threadgroups // (kv_heads * sets)
    return Cut(sets, tile, _SIMDS, blocks if blocks <= most else max(2, most // 16 * 16, min(most, 8)))


def kinds_of_cut(backend: str, vectors: int, kv_heads: int, head_dim: int) -> list[Cut]:
    """Return one cut of every kind that `cut_for` gives over all lengths: each is compiled apart."""
    # A cut changes where a tile is begun, and beyond 32,768 tokens no more.
    lengths = [*range(1, 8210, 16), *range(8193, 33025, 256)]
    return list(dict.fromkeys(cut_for(backend, vectors, kv_heads, head_dim, tokens).kind for tokens in lengths))


def possible_cuts(vectors: int, head_dim: int, tokens: int) -> list[Cut]:
    """Return every cut worth trying at a length."""
    found = []
    for sets in _divisors(vectors):
        found += [Cut(sets, _TILE_LATENCY, simds, 1) for simds in (5, 9, 17)]
        for tile in (_TILE_LATENCY,) if head_dim == 256 else (_TILE_LATENCY, _TILE_THROUGHPUT):
            tiles = -(-tokens // tile)
            wanted = (4, 8, 16, 17, 24, 32, 48, 64, 96, 128)
            found += [Cut(sets, tile, _SIMDS, blocks) for blocks in wanted if (blocks - 1) * _SIMDS <= tiles]
    return [cut for cut in found if fits(cut, vectors, head_dim)]


def fits(cut: Cut, vectors: int, head_dim: int) -> bool:
    """Return whether the kernel takes a cut: few enough query vectors a threadgroup, and memory for them."""
    heads = vectors // cut.sets
    return heads <= _MOST_HEADS and _bytes(cut, heads, head_dim) <= THREADGROUP_BYTES


def _bytes(cut: Cut, heads: int, head_dim: int) -> int:
    """Return the step's threadgroup memory, as attend.metal lays it out, with groups of 32."""
    weight_words = 1 if heads <= 2 else 2 if heads <= 4 else 4
    queries = 16 * 4 * heads * (head_dim // 32)
    weights = 4 * cut.simds * cut.tile * (head_dim // 32) * weight_words
    ends = 4 * (2 * cut.simds * heads + heads)
    return queries + weights + ends + 4 * cut.simds * heads * head_dim


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
