"""What a conversation's caches hold and cost, read off the caches themselves."""

from collections.abc import Sequence
from typing import Any

from mlx_lm.models.cache import KVCache, RotatingKVCache

from app.chat.figures import CacheFigures
from app.chat.options import CacheMode
from app.engine.cache_plan import CachePlan
from app.engine.kv_cache import Int4Cache
from app.engine.layer_cache import parts
from kernels import dispatch

FP16_BYTES = 2


def cache_figures(
    caches: Sequence[Any], plan: CachePlan, requested: CacheMode, group_size: int, tokens: int
) -> CacheFigures:
    """Return the figures of `caches`. `mode` is what they really are: int4 as soon as one layer is.

    A layer's fp16 equivalent is its rows at two bytes a value. A layer that is mlx-lm's own counts with its own
    bytes on either side.
    """
    used = allocated = fp16_used = fp16_allocated = int4_layers = 0
    for cache in parts(caches):
        if isinstance(cache, Int4Cache):
            int4_layers += 1
            row_values = 2 * cache.kv_heads * cache.head_dim
            fp16_used += cache.rows * row_values * FP16_BYTES
            fp16_allocated += cache.capacity * row_values * FP16_BYTES
            allocated += cache.nbytes
            used += _used(cache.nbytes, cache.rows, cache.capacity)
        else:
            size = 0 if cache.empty() else int(cache.nbytes)
            part = size
            if isinstance(cache, KVCache | RotatingKVCache) and cache.keys is not None:
                capacity = cache.keys.shape[2]
                part = _used(size, min(cache.offset, capacity), capacity)
            used, allocated = used + part, allocated + size
            fp16_used, fp16_allocated = fp16_used + part, fp16_allocated + size
    return CacheFigures(
        mode=CacheMode.INT4 if int4_layers else CacheMode.FP16,
        group_size=group_size,
        path=f"{dispatch.backend()}, {_attention(caches)}",
        tokens=tokens,
        used_bytes=used,
        allocated_bytes=allocated,
        fp16_used_bytes=fp16_used,
        fp16_allocated_bytes=fp16_allocated,
        layers_int4=int4_layers,
        layers_total=len(caches),
        notes=plan.notes if requested is CacheMode.INT4 else (),
    )


def _attention(caches: Sequence[Any]) -> str:
    """Say how the last decode step computed attention, from what the caches themselves recorded."""
    int4 = [c for c in parts(caches) if isinstance(c, Int4Cache)]
    steps = [c.plain_reason for c in int4 if c.plain_reason is not None]
    fused = sum(not reason for reason in steps)
    if not int4:
        return "MLX attention"
    if not steps:
        return "MLX attention, prefill so far"
    if not fused:
        return "plain MLX operations"
    return "fused kernels" if fused == len(steps) else f"fused kernels in {fused} of {len(steps)} int4 layers"


def _used(allocated: int, rows: int, capacity: int) -> int:
    return allocated * rows // capacity if capacity else 0
