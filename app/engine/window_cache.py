"""What stands in for a layer's cache while calibration reads one window of text."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as mlx_lm_cache

from app.engine.int4_handle import Int4Handle
from app.engine.layer_cache import kv_part, with_kv_part

Rows = Callable[[mx.array, mx.array], tuple[mx.array, mx.array]]
"""What happens to the keys and values of a window, `[1, Hk, L, D]` each, before attention gets them."""
Queries = Callable[[mx.array], None]
"""Is shown the queries that attend to a window, `[1, Hq, L, D]` after RoPE."""


class WindowCache(mlx_lm_cache._BaseCache):  # type: ignore[misc]
    """Hands a window's rows on, as a layer's cache would get them, and keeps none. Takes one call.

    A handle goes to the model in place of arrays, as from an int4 cache, so that the queries pass here too.

    `offset` is the position of the window's first token. RoPE turns the rows as it would there, while attention, which
    sees differences of positions, is what it is at the start of a text: a far position costs no history.
    """

    def __init__(self, layer: int, rows: Rows, queries: Queries, offset: int = 0, max_size: int | None = None) -> None:
        self.layer = layer
        self.rows = rows
        self.queries = queries
        self.offset = offset
        self.max_size = max_size

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Int4Handle, Int4Handle]:
        """Show the window's rows to `rows` and return handles to what it makes of them."""
        self.offset += keys.shape[2]
        seen_keys, seen_values = self.rows(keys, values)

        def attend(queries: mx.array, scale: float, mask: mx.array | str | None) -> mx.array:
            self.queries(queries)
            result: mx.array = mx.fast.scaled_dot_product_attention(
                queries, seen_keys, seen_values, scale=scale, mask=mask
            )
            return result

        handle = Int4Handle(self.layer, attend, keys.shape, keys.dtype)
        self._shown = handle, handle
        return self._shown

    def keys_and_values(self) -> tuple[Int4Handle, Int4Handle]:
        """Return once more what `update_and_fetch` returned, for a layer that shares another's cache."""
        return self._shown

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> mx.array | str | None:
        """Return the mask of the window's `N` tokens, before which there are none."""
        window = window_size or self.max_size
        if window is not None and window >= N:
            window = None
        mask: mx.array | str | None = mlx_lm_cache.create_attention_mask(
            N, offset=0, return_array=return_array, window_size=window
        )
        return mask


def unheard(queries: mx.array) -> None:
    """Take no notice: the `Queries` of a window that is read for its rows alone."""


def window_caches(
    model: Any,
    reasons: Sequence[str],
    rows: Callable[[int], Rows],
    offset: int = 0,
    queries: Callable[[int], Queries] = lambda layer: unheard,
) -> list[Any]:
    """Return a prompt cache for one window: `WindowCache` with `rows(layer)` where there is no reason against int4.

    Layers with a reason get the cache that mlx-lm made for them, and so does what a layer has beside its keys and
    values. `plan_cache` has put the attention in place that takes handles, and found out which layers' attention goes
    there.
    """
    stock = mlx_lm_cache.make_prompt_cache(model)
    return [
        entry
        if reason
        else with_kv_part(
            entry, WindowCache(layer, rows(layer), queries(layer), offset, getattr(kv_part(entry), "max_size", None))
        )
        for layer, (entry, reason) in enumerate(zip(stock, reasons, strict=True))
    ]


def as_they_are(keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
    """Return the rows unchanged: the `Rows` of a float cache."""
    return keys, values
