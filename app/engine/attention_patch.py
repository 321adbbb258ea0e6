"""The one place that touches mlx-lm's attention.

mlx-lm's models import `scaled_dot_product_attention` by name. `install` replaces it in `mlx_lm.models.base`, so that
architectures imported later get ours, and in every architecture that is loaded already. Ours serves calls whose keys
are an `Int4Handle` and passes everything else on unchanged. It looks at the keys, not at `cache`: layers that share
another layer's cache pass None there.
"""

import functools
import inspect
import sys
from typing import Any

import mlx.core as mx
from mlx_lm.models import base

from app.engine.int4_handle import Int4Handle, Int4NotServedError
from app.errors import NibbleError

_PARAMETERS = ["queries", "keys", "values", "cache", "scale", "mask", "sinks"]
_NAME = "scaled_dot_product_attention"
_original = getattr(base, _NAME)


def install() -> None:
    """Put Nibble's attention in place; may be called again after more architectures were imported.

    Raises NibbleError where mlx-lm's function does not take the arguments it took in 0.32.2.
    """
    found = list(inspect.signature(_original).parameters)
    if found != _PARAMETERS:
        raise NibbleError(
            f"This mlx-lm's attention takes {found}, not {_PARAMETERS}.",
            "Install the mlx-lm that pyproject.toml names.",
        )
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_lm.models.") and getattr(module, _NAME, None) is _original:
            setattr(module, _NAME, _attention)


@functools.wraps(_original)
def _attention(
    queries: mx.array,
    keys: Any,
    values: Any,
    cache: Any,
    scale: float,
    mask: mx.array | str | None,
    sinks: mx.array | None = None,
) -> mx.array:
    if isinstance(keys, Int4Handle):
        if sinks is not None:
            raise Int4NotServedError(keys.layer, "its attention has learned sinks")
        return keys.attend(queries, scale, mask)
    result: mx.array = _original(queries, keys, values, cache, scale, mask, sinks)
    return result
