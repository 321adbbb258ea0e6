"""An oracle for the int4 caches: mlx-lm's own float caches, fed with keys and values that were coded and decoded.

In decode the int4 cache attends on codes in the rotated domain; the oracle expands the same codes and runs MLX's float
attention over them. Both must agree to float rounding, whatever the history of chunks, rings and trims.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from app.engine.layer_cache import kv_part, with_kv_part
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
        self.shown: tuple[mx.array, mx.array] | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        past, self.shown = self.offset, None
        k, v = super().update_and_fetch(*coded(self.layer, self.group_size, keys, values))
        if keys.shape[2] > MAX_QUERIES:
            k, v = mx.concatenate([k[..., :past, :], keys], 2), mx.concatenate([v[..., :past, :], values], 2)
        self.shown = k, v
        return k, v

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        return self.shown or super().keys_and_values()


class CodedRotatingKVCache(RotatingKVCache):
    def __init__(self, layer: int, max_size: int, group_size: int = 32) -> None:
        super().__init__(max_size)
        self.layer, self.group_size = layer, group_size
        self.shown: tuple[mx.array, mx.array] | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.shown = None
        k, v = super().update_and_fetch(*coded(self.layer, self.group_size, keys, values))
        if keys.shape[2] > 1:
            past = k.shape[2] - keys.shape[2]
            k, v = mx.concatenate([k[..., :past, :], keys], 2), mx.concatenate([v[..., :past, :], values], 2)
        self.shown = k, v
        return k, v

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        return self.shown or super().keys_and_values()


def coded_caches(model: Any, group_size: int = 32, reasons: Sequence[str] | None = None) -> list[Any]:
    """Return oracles for all layers, or for those without a reason against int4."""
    stock = make_prompt_cache(model)
    return [
        entry if reason else with_kv_part(entry, _oracle(i, kv_part(entry), group_size))
        for i, (entry, reason) in enumerate(zip(stock, reasons or [""] * len(stock), strict=True))
    ]


def _oracle(layer: int, cache: Any, group_size: int) -> Any:
    if type(cache) is RotatingKVCache:
        return CodedRotatingKVCache(layer, cache.max_size, group_size)
    return CodedKVCache(layer, group_size)
