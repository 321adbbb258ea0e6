"""How a decode step is cut into threadgroups: one rule for all shapes, with one set of numbers for each GPU family.

A step's query vectors (query heads of a key/value head, times new tokens) are spread over `sets` threadgroups, which
each read the codes; its tokens over `blocks`. One block needs no second pass: the step is one launch.
"""

import functools
from dataclasses import dataclass, replace

from kernels.layout import UNIT
from kernels.reference import MAX_QUERIES

THREADGROUP_BYTES = 32768
"""Threadgroup memory that every Apple GPU has."""
MOST_BLOCKS = 128
TILE = 16
"""Tokens that a SIMD-group takes at a time."""
FEW_BLOCKS = 40
"""Partial sums for which eight SIMD-groups are enough in any second pass."""
_MERGED_BLOCKS = (FEW_BLOCKS, 80, MOST_BLOCKS)
"""Numbers of partial sums that the second pass is compiled for: a few blocks more than 32 or 64 need no larger one."""
_FEW_MERGE_SIMDS = 8
_SHARED_UNITS = 4
"""Units of 64 values of the rows of which two SIMD-groups may have half each."""
_ROOM_VALUES = 4096
"""Values of the SIMD-groups' sums for which each of them has room; of more, they come together in two turns."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What suits one family of GPUs.

    Up to `whole_tokens` a step is one launch, of threadgroups with `whole_simds` SIMD-groups, one of which takes the
    new token. Beyond, threadgroups have `simds`, and a launch has one for each of `cores` while that leaves a
    SIMD-group no more than `few_tiles` tiles. Else it has as many SIMD-groups as the cores hold at once, up to
    `most_simds` in a threadgroup. There are no more than `most_blocks`; of more than FEW_BLOCKS the second pass has
    `merge_simds` SIMD-groups.
    """

    whole_tokens: int
    whole_simds: int
    simds: int
    most_simds: int
    cores: int
    few_tiles: int
    most_blocks: int
    merge_simds: int


TUNINGS = {
    # An H100 or H200, which have 132 cores; from scans of chosen cuts (bench/LOG.md).
    "cuda": Tuning(
        whole_tokens=256,
        whole_simds=9,
        simds=8,
        most_simds=20,
        cores=132,
        few_tiles=2,
        most_blocks=MOST_BLOCKS,
        merge_simds=16,
    ),
    # Not measured. `python -m kernels.bench --tune` on a Mac says better. Four SIMD-groups are what MLX's own vector
    # attention has; `cores` is a guess. No threadgroup has more than APPLE_THREADS threads.
    "metal": Tuning(
        whole_tokens=256,
        whole_simds=9,
        simds=4,
        most_simds=4,
        cores=128,
        few_tiles=2,
        most_blocks=80,
        merge_simds=8,
    ),
}
APPLE_THREADS = 384
"""Threads that an Apple GPU lets a threadgroup have whatever registers they take (M1 and M2; metal-benchmarks, "Max
Threads"); where a kernel takes fewer it is up to 1,024. MLX raises for a launch of more than a GPU lets it have."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How a step is cut: `sets` threadgroups share a kv head's query vectors, `blocks` its tokens.

    A threadgroup has `simds` SIMD-groups, each of which takes tiles of 16 tokens. With `single` it is one at most, and
    the kernel asks for no next one. With two `sharers` each has half of a tile's values, and a single tile.
    """

    sets: int
    simds: int
    blocks: int
    single: bool = False
    sharers: int = 1

    @property
    def whole(self) -> bool:
        """Whether one launch does it all."""
        return self.blocks == 1

    @property
    def tiles(self) -> int:
        """How many tiles a threadgroup has at a time."""
        return self.simds // self.sharers

    @property
    def merged_blocks(self) -> int:
        """How many partial sums the second pass is compiled for."""
        return next(most for most in _MERGED_BLOCKS if self.blocks <= most)

    def merge_simds(self, backend: str) -> int:
        """Return how many SIMD-groups the second pass has."""
        return _FEW_MERGE_SIMDS if self.blocks <= FEW_BLOCKS else TUNINGS[backend].merge_simds

    def at(self, tokens: int) -> "Cut":
        """Return the cut as it is to be launched at a length. The new tokens are a tile of their own."""
        return replace(self, single=not self.whole and -(-tokens // TILE) < self.blocks * self.tiles)

    @property
    def kind(self) -> "Cut":
        """The cut that stands for all that run the same compiled kernels."""
        return self if self.whole else replace(self, blocks=self.merged_blocks)

    def resident(self, head_dim: int) -> int:
        """Return how many threadgroups an NVIDIA core is to hold."""
        return 1 if self.whole else max(1, _core_simds(head_dim) // self.simds)


@functools.lru_cache(maxsize=16384)
def cut_for(backend: str, vectors: int, kv_heads: int, head_dim: int, tokens: int) -> Cut:
    """Return the cut of a step in which `vectors` query vectors share each key/value head, at `tokens` cached tokens.

    Query vectors are spread over as many sets as leave the launch within its threadgroups, since each set reads the
    codes again.
    """
    tuning = TUNINGS[backend]
    tiles = -(-tokens // TILE)
    whole = Cut(vectors, tuning.whole_simds, 1)
    shared = _shared(tuning, vectors, kv_heads, head_dim, tiles)
    # Where two SIMD-groups can share a tile, no SIMD-group of a single launch is to have two.
    most_tiles = tuning.whole_simds - 1 if shared else tuning.whole_tokens // TILE
    if tiles <= most_tiles and fits(whole, vectors, head_dim):
        return whole
    if shared:
        return shared
    simds = tuning.simds
    groups = tuning.cores
    # The last SIMD-group has the new token instead of a tile.
    wanted = max(2, -(-(tiles + 1) // simds))
    choices = [n for n in _divisors(vectors) if fits(Cut(n, simds, MOST_BLOCKS), vectors, head_dim)]
    # As many sets as leave each SIMD-group one tile, or few, without the largest second pass. 33 blocks count as 32.
    fewest = [blocks for blocks in (wanted, -(-wanted // tuning.few_tiles)) if blocks <= _MERGED_BLOCKS[-2]]
    fitting = ([n for n in choices if kv_heads * n * (blocks - blocks // 32) <= groups] for blocks in fewest)
    sets = max(next(filter(None, fitting), choices[:1]))
    if sets == 1 and 4 < vectors <= 8 and 2 in choices and wanted > min(FEW_BLOCKS, groups // kv_heads):
        halved = Cut(2, simds, max(2, min(wanted, groups // (kv_heads * 2), tuning.most_blocks)))
        # Up to a tile more than few, two threadgroups that read the codes once each are faster than one.
        if wanted <= (tuning.few_tiles + 1) * halved.blocks:
            return halved.at(tokens)
    if tiles <= tuning.few_tiles * simds * (groups // (kv_heads * sets)):
        return Cut(sets, simds, max(2, min(wanted, groups // (kv_heads * sets), tuning.most_blocks))).at(tokens)
    # Many tiles: as many SIMD-groups as the cores hold, in threadgroups of this size or larger ones. Of those that make
    # few partial sums the ones that leave a SIMD-group the fewest tiles, of equals the smallest.
    core = max(simds, min(_core_simds(head_dim), tuning.most_simds))
    sizes = [
        n for n in sorted({simds, 2 * simds, core}) if n <= core and fits(Cut(sets, n, MOST_BLOCKS), vectors, head_dim)
    ]
    cuts = [_many(tuning, sets, n, kv_heads, head_dim, tiles) for n in sizes]
    few = [cut for cut in cuts if cut.blocks <= _MERGED_BLOCKS[-2]]
    return min(few or cuts, key=lambda cut: -(-(tiles + 1) // (cut.blocks * cut.simds))).at(tokens)


def _many(tuning: Tuning, sets: int, simds: int, kv_heads: int, head_dim: int, tiles: int) -> Cut:
    """Return the cut in which the cores have as many SIMD-groups as they hold, `simds` of them in a threadgroup."""
    wanted = -(-(tiles + 1) // simds)
    groups = tuning.cores * Cut(sets, simds, MOST_BLOCKS).resident(head_dim)
    blocks = max(2, min(wanted, groups // (kv_heads * sets), tuning.most_blocks))
    # A few more than 32 or 64 only make the second pass longer.
    return Cut(sets, simds, next((most for most in (32, 64) if most < blocks <= most + most // 16), blocks))


def _shared(tuning: Tuning, vectors: int, kv_heads: int, head_dim: int, tiles: int) -> Cut | None:
    """Return the cut in which pairs of SIMD-groups share a tile each, or None where the launch would be too large.

    A row of 256 values is long: a threadgroup of whole tiles would wait for twice the bytes, and a SIMD-group would
    have twice as much to do with them. Two SIMD-groups rotate a row: of sets there are as few as let them rotate all
    queries and a new token's rows at once, or fewer.
    """
    blocks = max(2, -(-(tiles + 1) // (tuning.simds // 2)))
    if _units(head_dim) != _SHARED_UNITS or blocks > min(tuning.most_blocks, _MERGED_BLOCKS[-2]):
        return None
    enough = next(n for n in _divisors(vectors) if vectors // n <= max(1, tuning.simds // 2 - 2))
    cuts = (Cut(n, tuning.simds, blocks, True, 2) for n in _divisors(vectors)[::-1] if n <= enough)
    return next((c for c in cuts if kv_heads * c.sets * blocks <= tuning.cores and fits(c, vectors, head_dim)), None)


def kinds_of_cut(backend: str, vectors: int, kv_heads: int, head_dim: int, window: int = 0) -> list[Cut]:
    """Return one cut of every kind that `cut_for` gives over all lengths: each is compiled apart.

    With `window` over those of a ring, which holds no more tokens.
    """
    # A cut changes where a tile is begun, and beyond 81,920 tokens no more.
    lengths = [*range(1, 8210, 16), *range(8193, 34049, 256), *range(34049, 82_000, 512)]
    if window:
        lengths = [*(tokens for tokens in lengths if tokens < window), window]
    return list(dict.fromkeys(cut_for(backend, vectors, kv_heads, head_dim, tokens).kind for tokens in lengths))


def possible_cuts(vectors: int, head_dim: int, tokens: int) -> list[Cut]:
    """Return every cut worth trying at a length."""
    tiles = -(-tokens // TILE)
    found = []
    for sets in _divisors(vectors):
        found += [Cut(sets, simds, 1) for simds in (5, 9, 17)]
        for simds in (4, 8, 12, 16, 20):
            wanted = (4, 6, 9, 16, 17, 24, 32, 33, 48, 64, 66, 96, 128)
            found += [Cut(sets, simds, blocks) for blocks in wanted if (blocks - 1) * simds <= tiles]
            if _units(head_dim) == _SHARED_UNITS:
                found.append(Cut(sets, simds, max(2, -(-(tiles + 1) // (simds // 2))), True, 2))
    return [cut.at(tokens) for cut in found if fits(cut, vectors, head_dim) and cut.blocks <= MOST_BLOCKS]


def fits(cut: Cut, vectors: int, head_dim: int) -> bool:
    """Return whether the kernel takes a cut: few enough query vectors a threadgroup, and memory for them."""
    heads = vectors // cut.sets
    most = 4 if _units(head_dim) > 2 else 8
    if cut.sharers > 1 and cut.tiles * heads * head_dim > _ROOM_VALUES:
        return False
    return heads <= most and max(_bytes(cut, heads, head_dim, new) for new in (1, MAX_QUERIES)) <= THREADGROUP_BYTES


def _bytes(cut: Cut, heads: int, head_dim: int, new: int) -> int:
    """Return the step's threadgroup memory, as attend.metal lays it out, with groups of 32 and `new` new tokens."""
    queries = 1024 * _units(head_dim) + (32 if heads > 4 else 16)
    rooms = cut.tiles if cut.tiles * heads * head_dim <= _ROOM_VALUES else -(-cut.tiles // 2)
    ends = -(-4 * 2 * rooms * heads // 16) * 16
    shares = 16 * 32 * cut.simds if cut.sharers > 1 else 16
    # Codes, scales, and for each scale as many floats as choices, twice.
    groups = -(-head_dim // 32)
    new_tokens = new * 2 * (head_dim // 2 + 2 * groups + groups * 4 * 2 * 4)
    # Rows of a room are moved apart (sums.h). Rotated new rows lie among the rooms, a single token's behind them.
    room = heads * head_dim + 4 * ((heads - 1) // 2 % 2 + (heads - 1) // 4 * 4)
    values = max(rooms * room + (2 * head_dim if new == 1 else 0), 2 * new * head_dim)
    return queries + ends + shares + 4 * values + new_tokens


def _units(head_dim: int) -> int:
    """Return how many units of 64 values, the last one filled up, a row takes in the step's matrices."""
    return -(-head_dim // UNIT)


def _core_simds(head_dim: int) -> int:
    """Return how many SIMD-groups share an NVIDIA core: as its registers allow, but fewer of rows of 192 and 256.

    A lane has five numbers of a row of 80 values, of no other one more than four.
    """
    return 8 if head_dim == 80 else {1: 20, 2: 16}.get(_units(head_dim), 8)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
