"""Float caches whose rows pass through a coding on the way in: what int4 does to a model, in one prefill pass.

In decode every token is attended from its codes, itself included, and the tokens before it were read the same way. A
float cache that holds decoded rows shows the model exactly that for a whole chunk of tokens at once, since a causal
mask lets each token see itself and what came before. So one prefill over a coded cache gives the logits of decoding
token by token from the int4 cache, up to float rounding, for any coding and at prefill's speed.

`B` batch, `Hk` key/value heads, `L` new tokens, `D` head size.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from app.engine.layer_cache import kv_part, with_kv_part


class Coding(Protocol):
    """What a layer's keys and values go through: coded and decoded again."""

    def __call__(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Return what is left of new rows after coding. Shapes: `[B, Hk, L, D]` each, in and out, of one type."""
        ...


class CodedCache(KVCache):  # type: ignore[misc]
    """A growing cache whose rows are coded on the way in."""

    def __init__(self, coding: Coding) -> None:
        super().__init__()
        self.coding = coding

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Add coded rows and return all that can be seen. Shapes: `[B, Hk, L, D]` each."""
        seen: tuple[mx.array, mx.array] = super().update_and_fetch(*self.coding(keys, values))
        return seen


class CodedRotatingCache(RotatingKVCache):  # type: ignore[misc]
    """The same for a ring of the last `max_size` tokens."""

    def __init__(self, coding: Coding, max_size: int) -> None:
        super().__init__(max_size)
        self.coding = coding

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Add coded rows and return all that can be seen. Shapes: `[B, Hk, L, D]` each."""
        seen: tuple[mx.array, mx.array] = super().update_and_fetch(*self.coding(keys, values))
        return seen


def coded_caches(model: Any, codings: Sequence[Coding | None]) -> list[Any]:
    """Return the model's caches, those with a coding wrapped in it. `codings`: one for each entry of its cache.

    Only mlx-lm's plain growing cache and its plain ring can be wrapped (`cache_plan` finds out which those are).
    """
    return [
        entry if coding is None else with_kv_part(entry, _wrapped(kv_part(entry), coding))
        for entry, coding in zip(make_prompt_cache(model), codings, strict=True)
    ]


def _wrapped(cache: Any, coding: Coding) -> CodedCache | CodedRotatingCache:
    if type(cache) is RotatingKVCache and not cache.keep:
        return CodedRotatingCache(coding, cache.max_size)
    if type(cache) is KVCache:
        return CodedCache(coding)
    raise ValueError(f"[coded_cache] a {type(cache).__name__} cannot be coded.")
