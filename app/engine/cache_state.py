"""What a conversation's caches hold, as named arrays and JSON types, and back into fresh caches."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx

from app.engine.kv_cache import Int4Cache
from app.engine.layer_cache import parts
from kernels.layout import SCALE_DTYPE, Layout


class CacheStateError(ValueError):
    """What is to be put into a cache does not fit it, or a cache holds what has no place in a file."""


def taken_apart(caches: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, mx.array]]:
    """Return an entry of JSON types for each single cache, and the arrays that the entries name, as they are allocated.

    Of an int4 cache the constants are left out: they are the model's. Raises CacheStateError for a cache of mlx-lm's
    that holds something else than arrays, numbers and texts.
    """
    arrays: dict[str, mx.array] = {}
    entries = []
    for number, cache in enumerate(parts(caches)):
        entry: dict[str, Any] = {"class": type(cache).__name__}
        if isinstance(cache, Int4Cache):
            codes, scales, *_ = cache.state
            entry |= {**_settings(cache), "head_dim": cache.head_dim, "offset": cache.offset}
            entry["rows"] = _plain([codes, scales], str(number), arrays)
        else:
            entry["state"] = _plain(cache.state, str(number), arrays)
        entries.append(entry)
    return entries, arrays


def put_together(caches: Sequence[Any], entries: Sequence[Any], arrays: Mapping[str, mx.array], tokens: int) -> None:
    """Fill fresh `caches` with what `taken_apart` returned of others, which held `tokens` tokens.

    Raises CacheStateError where classes, settings, shapes or lengths are not those of `caches`; some of these may have
    been filled then.
    """
    own = list(parts(caches))
    if len(entries) != len(own):
        raise CacheStateError(f"it has {len(entries)} caches, the model {len(own)}")
    for cache, entry in zip(own, entries, strict=True):
        if not isinstance(entry, dict) or entry.get("class") != type(cache).__name__:
            raise CacheStateError(f"it holds another cache than {type(cache).__name__}")
        try:
            if isinstance(cache, Int4Cache):
                _fill_int4(cache, entry, arrays)
            else:
                cache.state = _filled(entry["state"], arrays)
        except (KeyError, TypeError, AttributeError) as error:
            raise CacheStateError(f"its {type(cache).__name__} is not complete ({error!r})") from error
        offset = getattr(cache, "offset", None)
        if isinstance(offset, int) and offset != tokens:
            raise CacheStateError(f"it has {tokens} tokens, and a cache {offset}")


def _settings(cache: Int4Cache) -> dict[str, Any]:
    """Return what two caches must share if one is to hold the other's codes; constants apart."""
    return {
        "layer": cache.layer,
        "group_size": cache.group_size,
        "kind": cache.kind.value,
        "window": cache.window,
    }


def _fill_int4(cache: Int4Cache, entry: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> None:
    if any(entry[name] != value for name, value in _settings(cache).items()):
        raise CacheStateError(f"layer {cache.layer} was held in another way")
    codes, scales = _filled(entry["rows"], arrays)
    offset, head_dim = entry["offset"], entry["head_dim"]
    if type(offset) is not int or type(head_dim) is not int:
        raise CacheStateError(f"layer {cache.layer} has no length")
    if codes is not None or scales is not None or offset:
        layout = Layout(head_dim, cache.group_size)
        rows = min(offset, cache.window) if cache.window else offset
        fits = (
            codes.dtype == mx.uint32
            and scales.dtype == SCALE_DTYPE
            and codes.ndim == scales.ndim == 5
            and codes.shape[0] == 2
            and codes.shape[:4] == scales.shape[:4]
            and codes.shape[3] >= rows
            and (codes.shape[4], scales.shape[4]) == (layout.words, layout.groups)
        )
        if not fits:
            raise CacheStateError(f"layer {cache.layer} has codes and scales that do not fit")
    window = (cache.window,) if cache.window else ()
    mine = (cache.layer, cache.group_size, cache.kind.value, head_dim, cache.mu, cache.smooth)
    cache.state = (codes, scales, offset, *mine, *window)


def _plain(value: Any, name: str, arrays: dict[str, mx.array]) -> Any:
    if isinstance(value, mx.array):
        arrays[name] = value
        return {"array": name}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise CacheStateError(f"a cache holds a {type(value).__name__}")


def _filled(value: Any, arrays: Mapping[str, mx.array]) -> Any:
    if isinstance(value, dict):
        return arrays[value["array"]]
    if isinstance(value, list):
        return [_filled(item, arrays) for item in value]
    return value
