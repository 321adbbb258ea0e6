"""Keys and values beside a recurrent state, and caches that more than one layer reads."""

import copy
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    KVCache,
    RotatingKVCache,
    load_prompt_cache,
    save_prompt_cache,
)

from app.chat.options import CacheMode
from app.engine.cache_figures import cache_figures
from app.engine.cache_plan import make_caches, plan_cache
from app.engine.int4_handle import Int4NotServedError
from app.engine.kv_cache import Int4KVCache, Int4RotatingKVCache
from app.engine.layer_cache import kv_part, parts, with_kv_part
from tests.architecture_trial import random_model


def test_the_part_with_keys_and_values_is_found_and_replaced() -> None:
    state, kv, other = ArraysCache(2), KVCache(), RotatingKVCache(8)
    entry = CacheList(state, kv)
    assert kv_part(entry) is kv
    assert kv_part(kv) is kv
    replaced = with_kv_part(entry, other)
    assert list(replaced.caches) == [state, other]
    assert list(entry.caches) == [state, kv]
    assert with_kv_part(kv, other) is other
    assert list(parts([entry, other])) == [state, kv, other]


def test_two_caches_or_none_are_no_keys_and_values() -> None:
    for entry in (CacheList(KVCache(), KVCache()), CacheList(ArraysCache(2), ArraysCache(2))):
        assert kv_part(entry) is entry


@pytest.fixture(scope="module")
def beside_a_state() -> Any:
    """Baichuan-M1: a convolution beside a ring, and beside a growing cache."""
    return random_model("baichuan_m1")


def test_what_is_beside_keys_and_values_stays(beside_a_state: Any) -> None:
    plan = plan_cache(beside_a_state)
    assert plan.reasons == ("", "")
    caches = make_caches(beside_a_state, plan, CacheMode.INT4, 32)
    kinds = [[type(part) for part in entry.caches] for entry in caches]
    assert kinds == [[ArraysCache, Int4RotatingKVCache], [ArraysCache, Int4KVCache]]
    mx.eval(beside_a_state(mx.zeros((1, 40), mx.int32), cache=caches))
    figures = cache_figures(caches, plan, CacheMode.INT4, 32, 40)
    assert (figures.layers_int4, figures.layers_total) == (2, 2)
    assert figures.allocated_bytes == sum(entry.nbytes for entry in caches)
    state = sum(part.nbytes for entry in caches for part in entry.caches if isinstance(part, ArraysCache))
    assert figures.fp16_used_bytes - state == (40 + 32) * 2 * 64 * 2  # tokens, keys and values, head size, bytes
    assert figures.used_bytes - state == (40 + 32) * 2 * 64 * 4.5 / 8


def test_it_is_saved_loaded_and_copied_with_what_is_beside_it(beside_a_state: Any, tmp_path: Path) -> None:
    caches = make_caches(beside_a_state, plan_cache(beside_a_state), CacheMode.INT4, 32)
    mx.eval(beside_a_state(mx.arange(40)[None], cache=caches))
    file = str(tmp_path / "cache.safetensors")
    save_prompt_cache(file, caches)
    loaded, copied = load_prompt_cache(file), copy.deepcopy(caches)
    expected = beside_a_state(mx.array([[7]]), cache=caches)
    for other in (loaded, copied):
        assert mx.array_equal(beside_a_state(mx.array([[7]]), cache=other), expected)


@pytest.mark.parametrize("name", ["gemma3n", "afm7"])
def test_a_layer_that_reads_anothers_cache_is_served(name: str) -> None:
    model = random_model(name)
    plan = plan_cache(model)
    assert not any(plan.reasons)
    caches = make_caches(model, plan, CacheMode.INT4, 32)
    for tokens in (40, 3, 1):
        mx.eval(model(mx.zeros((1, tokens), mx.int32), cache=caches))
    assert caches[-1].attended > 3  # more often than it was added to
    assert not caches[-1].awaited


def test_a_cache_shows_only_what_was_added_last() -> None:
    cache = Int4KVCache(5)
    rows = mx.ones((1, 1, 20, 64))
    shown = cache.update_and_fetch(rows, rows)
    assert cache.keys_and_values() is shown
    mx.eval(cache.state)
    with pytest.raises(Int4NotServedError, match="reads its cache without adding to it") as caught:
        cache.keys_and_values()
    assert caught.value.layer == 5


def test_cast_handles_attend_in_the_queries_type() -> None:
    cache = Int4KVCache(0)
    rows = mx.random.normal((1, 1, 20, 64), key=mx.random.key(0)).astype(mx.bfloat16)
    keys, values = cache.update_and_fetch(rows, rows)
    cast = keys.astype(mx.float32)
    assert (cast.dtype, keys.dtype, values.dtype) == (mx.float32, mx.bfloat16, mx.bfloat16)
    queries = mx.random.normal((1, 1, 20, 64), key=mx.random.key(1))
    exact = mx.fast.scaled_dot_product_attention(queries, rows.astype(mx.float32), rows, scale=0.125, mask="causal")
    assert cast.attend(queries, 0.125, "causal").dtype == mx.float32
    assert mx.allclose(cast.attend(queries, 0.125, "causal"), exact, atol=1e-5)


def test_a_copy_shows_nothing_of_the_cache_it_was_made_from() -> None:
    cache = Int4KVCache(0)
    rows = mx.ones((1, 1, 20, 64))
    cache.update_and_fetch(rows, rows)
    copied = copy.deepcopy(cache)
    assert cache.keys_and_values()
    with pytest.raises(Int4NotServedError):
        copied.keys_and_values()
    assert (copied.offset, copied.capacity) == (cache.offset, cache.capacity)
