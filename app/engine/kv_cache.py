"""The int4 KV caches: mlx-lm's cache protocol over the operations of `kernels`.

`update_and_fetch` takes the new tokens and returns two handles in place of key and value arrays. The patched attention
(`attention_patch`) finds a handle in its arguments and calls `Int4Handle.attend`:

- a step, which is one new token or a few (at most `MAX_QUERIES`): attention on the codes. Its tokens are coded when its
  attention is built, so that a fused kernel can code them, write them in place (`kv_buffers`) and attend at once;
- more, prefill: the chunk's own keys and values are exact, the history before it is dequantized for this one layer, and
  MLX's fused attention runs over both. A ring does so from two tokens on, since their mask wants its rows in order.

The protocol was read in mlx-lm 0.32.2. Not defined on purpose: `bits` (routes to mlx-lm's unfused quantized attention),
`to_quantized` (mlx-lm would convert the cache) and `__len__` (an empty cache would be falsy).

`B` batch, `Hk` key/value heads, `L` new tokens, `S` cached tokens, `D` head size.
"""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import mlx.core as mx
from mlx_lm.models import cache as mlx_lm_cache
from mlx_lm.models.base import create_causal_mask

from app.engine.int4_handle import Attend, Int4Handle, Int4NotServedError
from app.engine.kv_buffers import Coded, KVBuffers
from kernels import dispatch
from kernels.codec import Codec
from kernels.reference import MAX_QUERIES
from kernels.rotation import Rotation, RotationKind


@dataclass(slots=True)
class _Step:
    """New tokens that are coded when their attention is built. Shapes: `[B, Hk, L, D]` each; `start` tokens before."""

    keys: mx.array
    values: mx.array
    start: int
    coded: bool = False


class Int4Cache(mlx_lm_cache._BaseCache):  # type: ignore[misc]
    """What the growing and the ring cache share: the buffers, tokens that are not coded yet, the state."""

    step = 256
    """Rows by which capacity grows, as in mlx-lm's own cache."""

    def __init__(
        self,
        layer: int,
        group_size: int = 32,
        kind: RotationKind = RotationKind.SRFT,
        mu: mx.array | None = None,
        smooth: mx.array | None = None,
    ) -> None:
        self.layer = layer
        self.group_size = group_size
        self.kind = kind
        self.mu = mu
        self.smooth = smooth
        self.offset = 0
        self.buffers = KVBuffers()
        self.head_dim = 0
        self._forget_what_ran()

    def _forget_what_ran(self) -> None:
        self.attended = 0
        self.awaited = False
        """Whether handles were given out and nothing has attended by them yet."""
        self.plain_reason: str | None = None
        """Why the last step was not fused; "" where it was, None before the first."""
        self._codec: Codec | None = None
        self._last: _Step | None = None
        self._shown: tuple[Int4Handle, Int4Handle] | None = None

    def __copy__(self) -> Self:
        """As deepcopy: two caches that shared one `KVBuffers` would write over each other."""
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of: all but the handles, by which it would attend to this cache."""
        return {**self.__dict__, "_shown": None}

    @property
    def codec(self) -> Codec:
        """The layer's codec; known from the first token on, or from a loaded state."""
        if self._codec is None:
            rotation = Rotation(self.kind, self.head_dim, self.layer)
            self._codec = Codec(rotation, self.group_size, self.mu, smooth=self.smooth)
        return self._codec

    @property
    def state(self) -> tuple[Any, ...]:
        """Everything a saved cache needs; arrays are as allocated, and only their first `rows` rows mean something."""
        self._settle()
        self._shown = None  # it holds the exact rows of a chunk
        return (
            *self.buffers.share(self.rows),
            self.offset,
            self.layer,
            self.group_size,
            self.kind.value,
            self.head_dim,
            self.mu,
            self.smooth,
        )

    @state.setter
    def state(self, state: tuple[Any, ...]) -> None:
        codes, scales, self.offset, self.layer, self.group_size, kind, self.head_dim, self.mu, self.smooth = state
        self.buffers = KVBuffers(codes, scales)
        self.kind = RotationKind(kind)
        self._forget_what_ran()

    @property
    def nbytes(self) -> int:
        """Allocated bytes: codes and scales of all rows. The constants are the model's, which all its caches share."""
        return self.buffers.nbytes

    @property
    def window(self) -> int:
        """Tokens that a ring holds; 0 for a cache that grows."""
        return 0

    @property
    def rows(self) -> int:
        """Rows that hold a token."""
        return self.offset

    @property
    def capacity(self) -> int:
        """Rows that are allocated."""
        return self.buffers.capacity

    @property
    def kv_heads(self) -> int:
        """Key/value heads times batch."""
        return self.buffers.heads

    def empty(self) -> bool:
        """Return whether nothing has been stored yet."""
        return self.offset == 0 and self.capacity == 0

    def size(self) -> int:
        """Return how many tokens can be attended to."""
        return self.rows

    def trim(self, n: int) -> int:
        """Forget the last `n` tokens; returns how many were forgotten. Right only while `is_trimmable`."""
        self._settle()
        self._last = self._shown = None
        n = min(self.offset, n)
        self.offset -= n
        return n

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Int4Handle, Int4Handle]:
        """Take new tokens and return handles to all that can be seen. Shapes: `[B, Hk, L, D]` each."""
        self._settle()
        self._shown = None
        self._check(keys, values)
        if keys.shape[2] > (1 if self.window else MAX_QUERIES):
            self._last = None
            self._shown = self._add_chunk(keys, values)
        else:
            self._shown = self._add_step(keys, values)
        self.awaited = True
        return self._shown

    def keys_and_values(self) -> tuple[Int4Handle, Int4Handle]:
        """Return once more what `update_and_fetch` returned last, for a layer that shares another's cache."""
        if self._shown is None:
            raise Int4NotServedError(self.layer, "the model reads its cache without adding to it")
        return self._shown

    def _add_step(self, keys: mx.array, values: mx.array) -> tuple[Int4Handle, Int4Handle]:
        """Take new tokens, to be coded when they are attended to."""
        step = self._last = _Step(keys, values, self.offset)
        self.offset += keys.shape[2]

        def attend(queries: mx.array, scale: float, mask: mx.array | str | None) -> mx.array:
            return self._attend_step(step, queries, scale, mask)

        return self._handles(keys, attend, self.rows)

    @abstractmethod
    def _add_chunk(self, keys: mx.array, values: mx.array) -> tuple[Int4Handle, Int4Handle]:
        """Take the tokens of a prefill chunk."""

    @abstractmethod
    def _write(self, start: int, coded: Coded) -> None:
        """Put the codes of tokens `start` and on where they belong, growing the buffers as needed."""

    @abstractmethod
    def _capacity_for(self, tokens: int) -> int:
        """Return how many rows are allocated once `tokens` tokens were taken."""

    def _settle(self) -> None:
        """Code and write the last step's tokens, if their attention has not done so."""
        step = self._last
        if step is None or step.coded:
            return
        step.coded = True
        self._write(step.start, dispatch.quantize(self.codec, step.keys, step.values))

    def _attend_step(self, step: _Step, queries: mx.array, scale: float, mask: mx.array | str | None) -> mx.array:
        if step is not self._last:
            raise Int4NotServedError(self.layer, "the model attends to what its cache held before")
        self._attended()
        heads = step.keys.shape[:2]
        capacity = self._capacity_for(self.offset)
        coded = step.coded  # of layers that share a cache the first one's step has coded the tokens
        self.plain_reason = (
            dispatch.reason_against(self.codec, queries, heads[1], capacity, self.offset, mask, self.window, coded)
            if queries.dtype == step.keys.dtype
            else f"queries are {queries.dtype}, keys {step.keys.dtype}"
        )
        if self.plain_reason:
            self._settle()
            return dispatch.attend(self.codec, queries, *self.buffers.first(self.rows), scale, mask)
        if coded:
            return self.buffers.attend_again(self.codec, queries, self.offset, scale, mask, self.window)
        step.coded = True
        self._reserve(self.offset, heads)
        return self.buffers.append_and_attend(
            self.codec, queries, step.keys, step.values, step.start, scale, mask, self.window
        )

    def _attend_chunk(self, history: Coded, keys: mx.array, values: mx.array, *stored: mx.array) -> Attend:
        # Left to itself, MLX codes the chunks of many layers together at the end, and memory peaks with all their
        # float32 rows: attention waits for this layer's codes.
        keys, values = mx.depends([keys, values], list(stored))

        def attend(queries: mx.array, scale: float, mask: mx.array | str | None) -> mx.array:
            self._attended()
            all_keys, all_values = keys, values
            if history[0].shape[3]:
                # Likewise, MLX may dequantize many layers' histories before the first one is needed.
                codes, scales = mx.depends(list(history), [queries])
                all_keys, all_values = dispatch.dequantize_before(self.codec, codes, scales, keys, values)
            result: mx.array = mx.fast.scaled_dot_product_attention(
                queries, all_keys, all_values, scale=scale, mask=mask
            )
            return result

        return attend

    def _attended(self) -> None:
        self.attended += 1
        self.awaited = False

    def _check(self, keys: mx.array, values: mx.array) -> None:
        if keys.shape != values.shape:
            raise Int4NotServedError(self.layer, f"keys have {keys.shape[-1]} values a head, values {values.shape[-1]}")
        if self.head_dim == 0:
            if keys.shape[-1] % 2:
                raise Int4NotServedError(self.layer, f"the head size {keys.shape[-1]} is odd")
            self.head_dim = keys.shape[-1]

    def _reserve(self, tokens: int, heads: tuple[int, ...]) -> None:
        """Make room for `tokens` tokens in all. `heads` is `(B, Hk)`."""
        self.buffers.reserve(self.codec.layout, heads, self._capacity_for(tokens))

    def _handles(self, keys: mx.array, attend: Attend, rows: int) -> tuple[Int4Handle, Int4Handle]:
        shape = (*keys.shape[:2], rows, keys.shape[3])
        return Int4Handle(self.layer, attend, shape, keys.dtype), Int4Handle(self.layer, attend, shape, keys.dtype)


class Int4KVCache(Int4Cache):
    """The int4 counterpart of mlx-lm's KVCache: grows with the conversation."""

    def is_trimmable(self) -> bool:
        """Return True: rows at the end can always be given up."""
        return True

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> mx.array | str | None:
        """Return the mask of `N` new tokens, as mlx-lm's KVCache does."""
        mask: mx.array | str | None = mlx_lm_cache.create_attention_mask(
            N, offset=self.offset, return_array=return_array, window_size=window_size
        )
        return mask

    def _add_chunk(self, keys: mx.array, values: mx.array) -> tuple[Int4Handle, Int4Handle]:
        start, self.offset = self.offset, self.offset + keys.shape[2]
        coded = dispatch.quantize(self.codec, keys, values)
        self._write(start, coded)
        attend = self._attend_chunk(self.buffers.first(start), keys, values, *coded)
        return self._handles(keys, attend, self.offset)

    def _write(self, start: int, coded: Coded) -> None:
        self._reserve(start + coded[0].shape[3], coded[0].shape[1:3])
        self.buffers.put(start, coded)

    def _capacity_for(self, tokens: int) -> int:
        return max(self.capacity, -(-tokens // self.step) * self.step)


class Int4RotatingKVCache(Int4Cache):
    """The int4 counterpart of mlx-lm's RotatingKVCache: a ring of the last `max_size` tokens.

    Position p lies in row p modulo `max_size`. Attention on the codes does not care for the order of rows; a chunk of
    several tokens takes the history out in order first, as its mask wants it.
    """

    def __init__(self, layer: int, max_size: int, group_size: int = 32, **options: Any) -> None:
        super().__init__(layer, group_size, **options)
        self.max_size = max_size

    @property
    def state(self) -> tuple[Any, ...]:
        """As `Int4Cache.state`, and the window."""
        return (*super().state, self.max_size)

    @state.setter
    def state(self, state: tuple[Any, ...]) -> None:
        *rest, self.max_size = state
        Int4Cache.state.fset(self, tuple(rest))  # type: ignore[attr-defined]

    @property
    def window(self) -> int:
        """Tokens that the ring holds."""
        return self.max_size

    @property
    def rows(self) -> int:
        """Rows that hold a token."""
        return min(self.offset, self.max_size)

    def is_trimmable(self) -> bool:
        """Return whether no token has left the window yet."""
        return self.offset < self.max_size

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> mx.array | str | None:
        """Return the mask of `N` new tokens; columns are in order for N > 1, in ring order for N = 1."""
        if N > 1:
            window = window_size or self.max_size
            past = min(self.max_size - 1, self.offset)
            if past + N > window or return_array:
                mask: mx.array = create_causal_mask(N, past, window_size=window)
                return mask
            return "causal"
        if window_size is None or window_size >= self.max_size or self.offset < window_size:
            return None
        # Row r will hold the latest position not after `offset` that equals r modulo max_size.
        rows = mx.arange(min(self.offset + 1, self.max_size))
        age = (self.offset - rows) % self.max_size
        return age < window_size

    def _add_chunk(self, keys: mx.array, values: mx.array) -> tuple[Int4Handle, Int4Handle]:
        start, self.offset = self.offset, self.offset + keys.shape[2]
        coded = dispatch.quantize(self.codec, keys, values)
        history = self._history(start) or (coded[0][..., :0, :], coded[1][..., :0, :])
        self._write(start, coded)
        attend = self._attend_chunk(history, keys, values, *coded)
        return self._handles(keys, attend, history[0].shape[3] + keys.shape[2])

    def _history(self, end: int) -> Coded | None:
        """Return at most the last `max_size - 1` tokens before token `end`, oldest first; None where there are none."""
        if end == 0:
            return None
        kept = min(end, self.max_size - 1)
        first = (end - kept) % self.max_size
        until_end = min(kept, self.max_size - first)
        pieces = [slice(first, first + until_end), slice(0, kept - until_end)]
        codes, scales = self.buffers.first(min(end, self.max_size))
        return (
            mx.concatenate([codes[..., p, :] for p in pieces], axis=3),
            mx.concatenate([scales[..., p, :] for p in pieces], axis=3),
        )

    def _write(self, start: int, coded: Coded) -> None:
        codes, scales = coded
        end = start + codes.shape[3]
        self._reserve(end, codes.shape[1:3])
        at = max(start, end - self.max_size)
        while at < end:
            row = at % self.max_size
            n = min(end - at, self.max_size - row)
            taken = slice(at - start, at - start + n)
            self.buffers.put(row, (codes[..., taken, :], scales[..., taken, :]))
            at += n

    def _capacity_for(self, tokens: int) -> int:
        return max(self.capacity, min(self.max_size, -(-tokens // self.step) * self.step))


# load_prompt_cache looks classes up among mlx-lm's own.
mlx_lm_cache.Int4KVCache = Int4KVCache
mlx_lm_cache.Int4RotatingKVCache = Int4RotatingKVCache
