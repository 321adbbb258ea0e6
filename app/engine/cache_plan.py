"""Which layers of a model can hold their cache in int4, found out by trying, and the caches that follow from it.

Nothing is assumed about an architecture. Each of mlx-lm's caches that has an int4 counterpart is replaced by it, and
the model's graph is built (not computed) for prefill chunks and a decode step. A layer that asks for something the int4
cache does not do says so by Int4NotServedError and keeps mlx-lm's cache; the others are tried again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache, make_prompt_cache

from app.chat.figures import LayerNote
from app.chat.options import CacheMode
from app.engine import attention_patch
from app.engine.calibration import Calibration, LayerConstants
from app.engine.int4_handle import Int4Handle, Int4NotServedError
from app.engine.kv_cache import Int4Cache, Int4KVCache, Int4RotatingKVCache
from app.engine.layer_cache import kv_part, with_kv_part
from kernels.reference import MAX_QUERIES

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CachePlan:
    """For every entry of the model's prompt cache, in order: "" where it can be int4, else the reason why not."""

    reasons: tuple[str, ...]

    @property
    def int4_layers(self) -> int:
        """How many layers can be int4."""
        return sum(not reason for reason in self.reasons)

    @property
    def notes(self) -> tuple[LayerNote, ...]:
        """The layers that stay as mlx-lm made them, grouped by reason."""
        grouped: dict[str, list[int]] = {}
        for layer, reason in enumerate(self.reasons):
            if reason:
                grouped.setdefault(reason, []).append(layer)
        return tuple(LayerNote(tuple(layers), reason) for reason, layers in grouped.items())

    def calibrated(self, calibration: Calibration) -> "CachePlan":
        """Return the plan with the layers that `calibration` wants to stay fp16."""
        return CachePlan(tuple(r or c.reason for r, c in zip(self.reasons, calibration.layers, strict=True)))


def plan_cache(model: Any) -> CachePlan:
    """Find out which layers of `model` can be int4. Costs graph building only, no computing."""
    attention_patch.install()
    reasons = [_not_replaceable(cache) for cache in make_prompt_cache(model)]
    while not all(reasons):
        caches = _caches(model, reasons, group_size=32)
        try:
            # The second chunk meets a history, the last one is a decode step.
            for tokens in (MAX_QUERIES + 1, MAX_QUERIES + 1, 1):
                model(mx.zeros((1, tokens), mx.int32), cache=caches)
        except Int4NotServedError as error:
            reasons[error.layer] = error.reason
            continue
        except Exception as error:
            # Whatever else a model does to a handle, which is no array, ends here.
            _log.info("int4 cache not possible", exc_info=True)
            held = [kv_part(entry) for entry in caches]
            touched = [i for i, c in enumerate(held) if isinstance(c, Int4Cache) and c.awaited]
            for layer in touched or range(len(reasons)):
                reasons[layer] = reasons[layer] or _what_it_did(error)
            continue
        held = [kv_part(entry) for entry in caches]
        unattended = [i for i, c in enumerate(held) if isinstance(c, Int4Cache) and not c.attended]
        if not unattended:
            break
        for layer in unattended:
            reasons[layer] = "its attention does not go through mlx-lm's common function"
    return CachePlan(tuple(reasons))


def make_caches(
    model: Any, plan: CachePlan, mode: CacheMode, group_size: int, calibration: Calibration | None = None
) -> list[Any]:
    """Return empty caches for one conversation: mlx-lm's own, in int4 mode replaced where the plan allows.

    int4 caches get the constants of `calibration`; a layer that it wants to stay fp16 does.
    """
    if mode is CacheMode.FP16:
        caches: list[Any] = make_prompt_cache(model)
        return caches
    if calibration is None:
        return _caches(model, plan.reasons, group_size)
    return _caches(model, plan.calibrated(calibration).reasons, group_size, calibration.layers)


def _caches(model: Any, reasons: Sequence[str], group_size: int, constants: Sequence[LayerConstants] = ()) -> list[Any]:
    stock = make_prompt_cache(model)
    return [
        entry
        if reason
        else with_kv_part(
            entry,
            _counterpart(kv_part(entry), layer, group_size, constants[layer] if constants else LayerConstants()),
        )
        for layer, (entry, reason) in enumerate(zip(stock, reasons, strict=True))
    ]


def _counterpart(cache: Any, layer: int, group_size: int, constants: LayerConstants) -> Int4Cache:
    if type(cache) is RotatingKVCache:
        return Int4RotatingKVCache(layer, cache.max_size, group_size, mu=constants.mu, smooth=constants.smooth)
    return Int4KVCache(layer, group_size, mu=constants.mu, smooth=constants.smooth)


def _what_it_did(error: Exception) -> str:
    """Say what a model did to its handles, as far as the error knows."""
    function, called, _ = str(error).partition("(): incompatible function arguments")
    if isinstance(error, TypeError) and called and Int4Handle.__name__ in str(error):
        return f"the model hands its keys or values to MLX itself (`{function}`)"
    return f"the model handles its cache in its own way ({type(error).__name__})"


def _not_replaceable(entry: Any) -> str:
    cache = kv_part(entry)
    if type(cache) is KVCache:
        return ""
    if type(cache) is RotatingKVCache:
        return "its ring keeps the first tokens for good" if cache.keep else ""
    if isinstance(cache, ArraysCache):
        return "it keeps a recurrent state, no keys and values"
    if isinstance(cache, CacheList):
        return f"its state is several caches ({', '.join(type(part).__name__ for part in cache.caches)})"
    return f"its state is no plain key/value cache ({type(cache).__name__})"
