"""The two arrays of an int4 cache, and when a step may write its rows into them in place.

MLX takes arrays for values that never change. A fused decode step writes its rows into the buffers all the same, behind
MLX's back. Two things make that safe:

**Nobody else sees the rows it writes.** `_seen` counts the rows, from row 0 on, that something else may look at, now or
later: attention on a view that is not evaluated yet, whoever read `state`, a deep copy. A growing cache writes behind
them. A step that would write among them (after a trim, in a ring) first moves all that is held into new arrays. What
MLX's own update returns is new as well: MLX reuses an array's memory only if nothing else holds it, pending or not.

**Whatever else reads or moves the rows comes after the steps that wrote them.** A step takes the position that the one
before it returned, and MLX orders the two by that, across a trim too. Of a step's writing MLX knows nothing: on Metal a
reader would not even get a memory barrier. So whatever is no step waits until the last position is there (`wait`); by
then all kernels that wrote are done. The other way round nothing waits: a step takes the very array an update returned.
Attention alone (`attend_again`) takes and returns the position like a step, so that it reads between two of them.

`B` batch, `Hk` key/value heads, `L` new tokens, `W` words and `N` scales of a row.
"""

import sys
from typing import Self

import mlx.core as mx

from kernels import dispatch
from kernels.codec import Codec
from kernels.layout import SCALE_DTYPE, Layout

Coded = tuple[mx.array, mx.array]
"""Codes `[2, B, Hk, rows, W]` uint32 and scales `[2, B, Hk, rows, N]` float16."""

_ALL = sys.maxsize


class KVBuffers:
    """Codes and scales of one layer's rows.

    Shapes: `codes` `[2, B, Hk, capacity, W]` uint32, `scales` `[2, B, Hk, capacity, N]` float16, both None while empty.
    Arrays that are handed in were made by others, who may still hold them: they are never written in place.
    """

    def __init__(self, codes: mx.array | None = None, scales: mx.array | None = None) -> None:
        self.codes = codes
        self.scales = scales
        self.copies = 0
        """How often all rows were moved because a step was to write where others might look."""
        self._seen = _ALL
        self._position: mx.array | None = None
        self._tokens = 0

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Share the arrays; whichever of the two steps first moves to new ones, and so does the other."""
        self.wait()
        self._seen = _ALL
        return type(self)(self.codes, self.scales)

    @property
    def capacity(self) -> int:
        """Rows that are allocated."""
        return 0 if self.codes is None else self.codes.shape[3]

    @property
    def heads(self) -> int:
        """Key/value heads times batch."""
        return 0 if self.codes is None else self.codes.shape[1] * self.codes.shape[2]

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        return 0 if self.codes is None or self.scales is None else int(self.codes.nbytes + self.scales.nbytes)

    def wait(self) -> None:
        """Return once every step has written its rows."""
        if self._position is not None:
            mx.eval(self._position)

    def share(self, rows: int) -> tuple[mx.array | None, mx.array | None]:
        """Hand out the arrays themselves, of whose rows the first `rows` count; None while empty."""
        self.wait()
        self._seen = max(self._seen, rows)
        return self.codes, self.scales

    def first(self, rows: int) -> Coded:
        """Return a view of the first `rows` rows."""
        codes, scales = _there(self.share(rows))
        return codes[..., :rows, :], scales[..., :rows, :]

    def reserve(self, layout: Layout, heads: tuple[int, ...], capacity: int) -> None:
        """Have at least `capacity` rows. `heads` is `(B, Hk)`."""
        if self.codes is None:
            self.codes = mx.zeros((2, *heads, capacity, layout.words), mx.uint32)
            self.scales = mx.zeros((2, *heads, capacity, layout.groups), SCALE_DTYPE)
            self._seen = 0
        elif self.capacity < capacity:
            self._move(capacity)

    def put(self, row: int, coded: Coded) -> None:
        """Write rows from `row` on the way MLX does, as new arrays."""
        self.wait()
        rows = slice(row, row + coded[0].shape[3])
        # An item assignment changes the Python object, which others may hold too: it is made on new ones.
        codes, scales = (array[...] for array in _there((self.codes, self.scales)))
        codes[..., rows, :], scales[..., rows, :] = coded
        self.codes, self.scales = codes, scales
        # Where every row is written MLX returns what was put, which is not ours.
        alien = self._seen == _ALL or rows == slice(0, self.capacity)
        self._seen = _ALL if alien else 0

    def append_and_attend(
        self,
        codec: Codec,
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        start: int,
        scale: float,
        mask: mx.array | str | None,
        window: int,
    ) -> mx.array:
        """Code new tokens into their rows in place and attend, in one fused step. Capacity must be there.

        `start` tokens came before.

        Shapes: as `kernels.dispatch.append_and_attend`.
        """
        if (start % window if window else start) < self._seen:
            self._move(self.capacity)
            self.copies += 1
        position = self._position
        if position is None:
            position = dispatch.start_position(start)
        elif self._tokens != start:
            position = position - (self._tokens - start)
        self._tokens = start + keys.shape[2]
        codes, scales = _there((self.codes, self.scales))
        result, self._position = dispatch.append_and_attend(
            codec, queries, keys, values, codes, scales, position, self._tokens, scale, mask, window
        )
        return result

    def attend_again(
        self,
        codec: Codec,
        queries: mx.array,
        tokens: int,
        scale: float,
        mask: mx.array | str | None,
        window: int,
    ) -> mx.array:
        """Attend on all `tokens` tokens, the last step's included, in one fused step that writes nothing.

        It takes the last step's position and returns the next one's, so that MLX has it read between the two.

        Shapes: as `kernels.dispatch.append_and_attend`.
        """
        position = self._position
        if position is None or self._tokens != tokens:  # the last rows are MLX's own update
            position = dispatch.start_position(tokens)
        self._tokens = tokens
        codes, scales = _there((self.codes, self.scales))
        result, self._position = dispatch.attend_again(
            codec, queries, codes, scales, position, tokens, scale, mask, window
        )
        return result

    def _move(self, capacity: int) -> None:
        """Continue in new arrays of `capacity` rows. Concatenating copies always, mx.contiguous only at need."""
        more = capacity - self.capacity
        self.codes, self.scales = (
            mx.concatenate([array, mx.zeros((*array.shape[:3], more, array.shape[4]), array.dtype)], axis=3)
            if more
            else mx.concatenate([array[:1], array[1:]])
            for array in _there(self.share(0))
        )
        self._seen = 0


def _there(arrays: tuple[mx.array | None, mx.array | None]) -> Coded:
    codes, scales = arrays
    assert codes is not None
    assert scales is not None
    return codes, scales
