"""The int4 KV caches: mlx-lm's cache protocol over the operations of `kernels`.

`update_and_fetch` stores the codes of the new tokens and returns two handles in place of key and value arrays. The
patched attention (`attention_patch`) finds a handle in its arguments and calls `Int4Handle.attend`:

- decode (at most `MAX_QUERIES` new tokens): attention on the codes, nothing is expanded;
- prefill: the chunk's own keys and values are exact, the history before it is dequantized for this one layer, and
  MLX's fused attention runs over both.

The protocol was read in mlx-lm 0.32.2. Not defined on purpose: `bits` (routes to mlx-lm's unfused quantized attention),
`to_quantized` (mlx-lm would convert the cache) and `__len__` (an empty cache would be falsy).

`B` batch, `Hk` key/value heads, `L` new tokens, `S` cached tokens, `D` head size, `W` words, `N` scales of a row.
"""

from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as mlx_lm_cache
from mlx_lm.models.base import create_causal_mask

from kernels import dispatch
from kernels.codec import Codec
from kernels.reference import MAX_QUERIES
from kernels.rotation import Rotation, RotationKind


class Int4NotServedError(Exception):
    """A layer asks for something that the int4 cache does not do; the message is the reason shown for that layer."""

    def __init__(self, layer: int, reason: str) -> None:
        super().__init__(reason)
        self.layer = layer
        self.reason = reason


class Int4Handle:
    """Stands where mlx-lm expects the array of all keys, or of all values; usable by patched attention alone.

    Any other use raises Int4NotServedError, so that a model which touches its keys between cache and attention is
    found out while a cache is planned (`cache_plan`), and never computes on something else than it believes.
    """

    def __init__(self, layer: int, attend: "_Attend", shape: tuple[int, ...], dtype: mx.Dtype) -> None:
        self.layer = layer
        self.attend = attend
        self.shape = shape
        self.dtype = dtype

    def __getattr__(self, name: str) -> Any:
        raise Int4NotServedError(self.layer, f"the model reads its keys or values itself (`{name}`)")

    def __getitem__(self, index: object) -> Any:
        raise Int4NotServedError(self.layer, "the model slices its keys or values itself")


class _Attend:
    """Attention of one call of `update_and_fetch`: over codes alone, or over dequantized codes and an exact chunk."""

    def __init__(self, cache: "Int4Cache", codes: mx.array, scales: mx.array, chunk: tuple[mx.array, mx.array] | None):
        self.cache = cache
        self.codes = codes
        self.scales = scales
        self.chunk = chunk

    def __call__(self, queries: mx.array, scale: float, mask: mx.array | str | None) -> mx.array:
        """Shapes: queries and result `[B, Hq, L, D]`."""
        self.cache.attended += 1
        codec = self.cache.codec
        if self.chunk is None:
            return dispatch.attend(codec, queries, self.codes, self.scales, scale, mask)
        keys, values = self.chunk
        if self.codes.shape[3]:
            # Without this dependency MLX may dequantize many layers' histories before the first one is needed.
            codes, scales = mx.depends([self.codes, self.scales], [queries])
            past_keys, past_values = dispatch.dequantize(codec, codes, scales, keys.dtype)
            keys = mx.concatenate([past_keys, keys], axis=2)
            values = mx.concatenate([past_values, values], axis=2)
        result: mx.array = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
        return result


class Int4Cache(mlx_lm_cache._BaseCache):  # type: ignore[misc]
    """What the growing and the ring cache share: buffers of codes, their growth, their state.

    Shapes: `codes` `[2, B, Hk, capacity, W]` uint32, `scales` `[2, B, Hk, capacity, N]` float16, both None while empty.
    """

    step = 256
    """Rows by which capacity grows, as in mlx-lm's own cache."""

    def __init__(
        self,
        layer: int,
        group_size: int = 32,
        kind: RotationKind = RotationKind.SRFT,
        mu: mx.array | None = None,
        lam: mx.array | None = None,
    ) -> None:
        self.layer = layer
        self.group_size = group_size
        self.kind = kind
        self.mu = mu
        self.lam = lam
        self.offset = 0
        self.codes: mx.array | None = None
        self.scales: mx.array | None = None
        self.head_dim = 0
        self.attended = 0
        self._codec: Codec | None = None

    @property
    def codec(self) -> Codec:
        """The layer's codec; known from the first token on, or from a loaded state."""
        if self._codec is None:
            rotation = Rotation(self.kind, self.head_dim, self.layer)
            self._codec = Codec(rotation, self.group_size, self.mu, self.lam)
        return self._codec

    @property
    def state(self) -> tuple[Any, ...]:
        """Everything a saved cache needs; arrays are as allocated, tail of the last step included."""
        return (
            self.codes,
            self.scales,
            self.offset,
            self.layer,
            self.group_size,
            self.kind.value,
            self.head_dim,
            self.mu,
            self.lam,
        )

    @state.setter
    def state(self, state: tuple[Any, ...]) -> None:
        self.codes, self.scales, self.offset, self.layer, self.group_size, kind, self.head_dim, self.mu, self.lam = (
            state
        )
        self.kind = RotationKind(kind)
        self.attended = 0
        self._codec = None

    @property
    def nbytes(self) -> int:
        """Allocated bytes: codes and scales of all rows, and the layer's calibration."""
        if self.codes is None or self.scales is None:
            return 0
        return int(self.codes.nbytes + self.scales.nbytes) + self.codec.nbytes

    @property
    def rows(self) -> int:
        """Rows that hold a token."""
        return self.offset

    @property
    def capacity(self) -> int:
        """Rows that are allocated."""
        return 0 if self.codes is None else self.codes.shape[3]

    @property
    def kv_heads(self) -> int:
        """Key/value heads times batch."""
        return 0 if self.codes is None else self.codes.shape[1] * self.codes.shape[2]

    def empty(self) -> bool:
        """Return whether nothing has been stored yet."""
        return self.codes is None

    def size(self) -> int:
        """Return how many tokens can be attended to."""
        return self.rows

    def _encode(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        if keys.shape != values.shape:
            raise Int4NotServedError(self.layer, f"keys have {keys.shape[-1]} values a head, values {values.shape[-1]}")
        if self.head_dim == 0:
            if keys.shape[-1] % 2:
                raise Int4NotServedError(self.layer, f"the head size {keys.shape[-1]} is odd")
            self.head_dim = keys.shape[-1]
        return dispatch.quantize(self.codec, keys, values)

    def _reserve(self, rows: int, codes: mx.array, scales: mx.array) -> None:
        """Make room for `rows` rows; `codes` and `scales` of new tokens give the other axes."""
        missing = rows - self.capacity
        if missing <= 0:
            return
        new_codes = mx.zeros((*codes.shape[:3], missing, codes.shape[4]), codes.dtype)
        new_scales = mx.zeros((*scales.shape[:3], missing, scales.shape[4]), scales.dtype)
        if self.codes is None or self.scales is None:
            self.codes, self.scales = new_codes, new_scales
        else:
            self.codes = mx.concatenate([self.codes, new_codes], axis=3)
            self.scales = mx.concatenate([self.scales, new_scales], axis=3)

    def _handles(
        self, keys: mx.array, codes: mx.array, scales: mx.array, chunk: tuple[mx.array, mx.array] | None
    ) -> tuple[Int4Handle, Int4Handle]:
        attend = _Attend(self, codes, scales, chunk)
        rows = codes.shape[3] + (0 if chunk is None else chunk[0].shape[2])
        shape = (*keys.shape[:2], rows, keys.shape[3])
        return Int4Handle(self.layer, attend, shape, keys.dtype), Int4Handle(self.layer, attend, shape, keys.dtype)


class Int4KVCache(Int4Cache):
    """The int4 counterpart of mlx-lm's KVCache: grows with the conversation."""

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Int4Handle, Int4Handle]:
        """Store new tokens and return handles to all. Shapes: `[B, Hk, L, D]` each."""
        new_codes, new_scales = self._encode(keys, values)
        start, end = self.offset, self.offset + keys.shape[2]
        self._reserve(-(-end // self.step) * self.step, new_codes, new_scales)
        assert self.codes is not None
        assert self.scales is not None
        self.codes[..., start:end, :] = new_codes
        self.scales[..., start:end, :] = new_scales
        self.offset = end
        chunk = None if keys.shape[2] <= MAX_QUERIES else _after(keys, values, new_codes, new_scales)
        seen = end if chunk is None else start
        return self._handles(keys, self.codes[..., :seen, :], self.scales[..., :seen, :], chunk)

    def is_trimmable(self) -> bool:
        """Return True: rows at the end can always be given up."""
        return True

    def trim(self, n: int) -> int:
        """Forget the last `n` tokens; returns how many were forgotten."""
        n = min(self.offset, n)
        self.offset -= n
        return n

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> mx.array | str | None:
        """Return the mask of `N` new tokens, as mlx-lm's KVCache does."""
        mask: mx.array | str | None = mlx_lm_cache.create_attention_mask(
            N, offset=self.offset, return_array=return_array, window_size=window_size
        )
        return mask


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
    def rows(self) -> int:
        """Rows that hold a token."""
        return min(self.offset, self.max_size)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Int4Handle, Int4Handle]:
        """Store new tokens and return handles to those in the window. Shapes: `[B, Hk, L, D]` each."""
        new_codes, new_scales = self._encode(keys, values)
        history = None if keys.shape[2] == 1 else self._history()
        self._write(new_codes, new_scales)
        assert self.codes is not None
        assert self.scales is not None
        if history is None:
            rows = self.rows
            return self._handles(keys, self.codes[..., :rows, :], self.scales[..., :rows, :], None)
        codes, scales = history or (new_codes[..., :0, :], new_scales[..., :0, :])
        return self._handles(keys, codes, scales, _after(keys, values, new_codes, new_scales))

    def is_trimmable(self) -> bool:
        """Return whether no token has left the window yet."""
        return self.offset < self.max_size

    def trim(self, n: int) -> int:
        """Forget the last `n` tokens; returns how many were forgotten. Right only while `is_trimmable`."""
        n = min(self.offset, n)
        self.offset -= n
        return n

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

    def _history(self) -> tuple[mx.array, mx.array] | tuple[()]:
        """Return codes and scales of at most the last `max_size - 1` tokens, oldest first; () while empty."""
        if self.codes is None or self.scales is None or self.offset == 0:
            return ()
        kept = min(self.offset, self.max_size - 1)
        first = (self.offset - kept) % self.max_size
        until_end = min(kept, self.max_size - first)
        pieces = [slice(first, first + until_end), slice(0, kept - until_end)]
        return (
            mx.concatenate([self.codes[..., p, :] for p in pieces], axis=3),
            mx.concatenate([self.scales[..., p, :] for p in pieces], axis=3),
        )

    def _write(self, codes: mx.array, scales: mx.array) -> None:
        new = codes.shape[3]
        end = self.offset + new
        self._reserve(min(self.max_size, -(-end // self.step) * self.step), codes, scales)
        assert self.codes is not None
        assert self.scales is not None
        at = max(self.offset, end - self.max_size)
        while at < end:
            row = at % self.max_size
            n = min(end - at, self.max_size - row)
            taken = slice(at - self.offset, at - self.offset + n)
            self.codes[..., row : row + n, :] = codes[..., taken, :]
            self.scales[..., row : row + n, :] = scales[..., taken, :]
            at += n
        self.offset = end


def _after(keys: mx.array, values: mx.array, *stored: mx.array) -> tuple[mx.array, mx.array]:
    """Return the exact chunk, to be attended to after its codes are made.

    Left to itself, MLX codes the chunks of many layers together at the end, and memory peaks with all their float32
    rows.
    """
    keys, values = mx.depends([keys, values], list(stored))
    return keys, values


# load_prompt_cache looks classes up among mlx-lm's own.
mlx_lm_cache.Int4KVCache = Int4KVCache
mlx_lm_cache.Int4RotatingKVCache = Int4RotatingKVCache
