"""An oracle for the int4 caches: mlx-lm's own float caches, fed with keys and values that were coded and decoded.

In decode the int4 cache attends on codes in the rotated domain; the oracle expands the same codes and runs MLX's float
attention over them. Both must agree to float rounding, whatever the history of chunks, rings and trims.
"""

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache, RotatingKVCache

from kernels import dispatch
from kernels.codec import make_codec
from kernels.reference import MAX_QUERIES


def coded(layer: int, group_size: int, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
    codec = make_codec(keys.shape[-1], group_size, layer)
    return dispatch.dequantize(codec, *dispatch.quantize(codec, keys, values), keys.dtype)


class CodedKVCache(KVCache):
    def __init__(self, layer: int, group_size: int = 32) -> None:
        super().__init__()
        self.layer, self.group_size = layer, group_size

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        past = self.offset
        k, v = super().update_and_fetch(*coded(self.layer, self.group_size, keys, values))
        if keys.shape[2] <= MAX_QUERIES:
            return k, v
        return mx.concatenate([k[..., :past, :], keys], 2), mx.concatenate([v[..., :past, :], values], 2)


class CodedRotatingKVCache(RotatingKVCache):
    def __init__(self, layer: int, max_size: int, group_size: int = 32) -> None:
        super().__init__(max_size)
        self.layer, self.group_size = layer, group_size

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        k, v = super().update_and_fetch(*coded(self.layer, self.group_size, keys, values))
        if keys.shape[2] == 1:
            return k, v
        past = k.shape[2] - keys.shape[2]
        return mx.concatenate([k[..., :past, :], keys], 2), mx.concatenate([v[..., :past, :], values], 2)


def coded_caches(model: Any, group_size: int = 32) -> list[Any]:
    from mlx_lm.models.cache import make_prompt_cache

    return [
        CodedRotatingKVCache(i, c.max_size, group_size) if type(c) is RotatingKVCache else CodedKVCache(i, group_size)
        for i, c in enumerate(make_prompt_cache(model))
    ]
