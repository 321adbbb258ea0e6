"""How a model's caches grow with its tokens, read off the caches themselves: nothing is assumed of an architecture.

The model's graph is built for one chunk of tokens in every mode, and not computed: arrays that are not computed have
their shapes, and take no memory. A cache's type says whether it keeps every token, a window of them, or a state.
"""

import os
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from app.chat.options import GROUP_SIZES, CacheMode
from app.chat.outlook import CacheGrowth, Int4Growth, LayerGrowth, Outlook
from app.engine.cache_plan import CachePlan, make_caches
from app.engine.calibration import Calibration
from app.engine.kv_cache import Int4Cache
from app.engine.layer_cache import parts
from kernels.reference import MAX_QUERIES

PROBE_TOKENS = MAX_QUERIES + 1
"""A chunk, so that int4 caches reserve their rows when the graph is built."""


def outlook_of(model: Any, plan: CachePlan, calibration: Calibration | None) -> Outlook:
    """Return what `model`'s caches will take in either mode, and the memory there is."""
    memory_bytes, source = usable_memory()
    return Outlook(
        fp16=probed_growth(model, make_caches(model, plan, CacheMode.FP16, GROUP_SIZES[0], calibration)),
        int4=tuple(
            Int4Growth(size, probed_growth(model, make_caches(model, plan, CacheMode.INT4, size, calibration)))
            for size in GROUP_SIZES
        ),
        memory_bytes=memory_bytes,
        memory_source=source,
    )


def probed_growth(model: Any, caches: Sequence[Any]) -> CacheGrowth:
    """Return how `caches`, fresh ones of `model`, grow. They are of no other use afterwards."""
    model(mx.zeros((1, PROBE_TOKENS), mx.int32), cache=caches)
    return growth_of(caches)


def growth_of(caches: Sequence[Any]) -> CacheGrowth:
    """Return how `caches` grow, which have taken at least one chunk; layers that grow alike are put together."""
    alike: dict[tuple[int, int, bool], list[tuple[int, int]]] = {}
    for cache in parts(caches):
        row_bytes, fixed_bytes = _row_bytes(cache)
        window = _window(cache)
        alike.setdefault((window, _step(cache), bool(fixed_bytes)), []).append((row_bytes, fixed_bytes))
    return CacheGrowth(
        tuple(
            LayerGrowth(len(layers), sum(r for r, _ in layers), step, window, sum(f for _, f in layers))
            for (window, step, _), layers in alike.items()
        )
    )


MEMORY_SHARE = 0.75
"""Of physical memory, where nothing says what a program should use at most: the rest is other programs'."""


def usable_memory() -> tuple[int, str]:
    """Return the bytes that a model and its caches can use here, and what that figure is.

    The one budget of the program: the outlook, the catalogue and the check before a model is opened all take it.
    """
    if mx.metal.is_available() and mx.device_count(mx.gpu):
        # The GPU's, whichever device is the default: graphs are built for the CPU where only shapes are asked for.
        size = int(mx.device_info(mx.gpu).get("max_recommended_working_set_size", 0))
        if size:
            return size, "the working set that Metal recommends for this GPU"
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(physical * MEMORY_SHARE), "three quarters of this machine's physical memory"


def _row_bytes(cache: Any) -> tuple[int, int]:
    """Return the bytes of a row, and those that do not grow; one of the two is 0."""
    if isinstance(cache, Int4Cache):
        return (cache.nbytes // cache.capacity if cache.capacity else 0), 0
    keys = getattr(cache, "keys", None)
    if isinstance(keys, mx.array) and keys.ndim == 4 and keys.shape[2]:
        return int(cache.nbytes) // keys.shape[2], 0
    return 0, 0 if cache.empty() else int(cache.nbytes)


def _window(cache: Any) -> int:
    """Return the most tokens that a cache keeps, 0 where it keeps all."""
    if isinstance(cache, Int4Cache):
        return cache.window
    return int(getattr(cache, "max_size", 0) or getattr(cache, "chunk_size", 0) or 0)


def _step(cache: Any) -> int:
    step = getattr(cache, "step", 0)
    return step if isinstance(step, int) and step > 0 else 1
