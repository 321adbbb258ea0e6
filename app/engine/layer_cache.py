"""A layer's entry in mlx-lm's prompt cache: its keys and values alone, or beside the state of something else.

Some layers have attention and, beside it, a convolution or a state space. mlx-lm puts the state of both into a
CacheList. Of that only the keys and values can be int4.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from mlx_lm.models.cache import ArraysCache, CacheList


def kv_part(entry: Any) -> Any:
    """Return the cache of the keys and values of `entry`: itself, or the only part that is no recurrent state."""
    if isinstance(entry, CacheList):
        others = [part for part in entry.caches if not isinstance(part, ArraysCache)]
        if len(others) == 1:
            return others[0]
    return entry


def with_kv_part(entry: Any, cache: Any) -> Any:
    """Return `entry` with `cache` in place of its `kv_part`."""
    kv = kv_part(entry)
    if kv is entry:
        return cache
    return CacheList(*(cache if part is kv else part for part in entry.caches))


def parts(entries: Iterable[Any]) -> Iterator[Any]:
    """Yield every single cache in `entries`."""
    for entry in entries:
        if isinstance(entry, CacheList):
            yield from parts(entry.caches)
        else:
            yield entry
