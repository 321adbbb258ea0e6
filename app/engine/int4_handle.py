"""What an int4 cache, or one that calibrates, hands to a model in place of its keys and values."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

Attend = Callable[[mx.array, float, "mx.array | str | None"], mx.array]
"""Attention of one call of `update_and_fetch`: queries `[B, Hq, L, D]`, softmax scale, mask; to `[B, Hq, L, D]`."""


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

    def __init__(self, layer: int, attend: Attend, shape: tuple[int, ...], dtype: mx.Dtype) -> None:
        self.layer = layer
        self.attend = attend
        self.shape = shape
        self.dtype = dtype

    def astype(self, dtype: mx.Dtype) -> "Int4Handle":
        """Return a handle for keys or values of another type: attention computes in the type of the queries anyway."""
        return Int4Handle(self.layer, self.attend, self.shape, dtype)

    def __getattr__(self, name: str) -> Any:
        raise Int4NotServedError(self.layer, f"the model reads its keys or values itself (`{name}`)")

    def __getitem__(self, index: object) -> Any:
        raise Int4NotServedError(self.layer, "the model slices its keys or values itself")
