"""How caches grow is read off their shapes; here it is held against what real ones allocate."""

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache

from app.chat.options import GROUP_SIZES, CacheMode
from app.chat.outlook import LayerGrowth
from app.engine import cache_growth
from app.engine.cache_growth import growth_of, outlook_of, probed_growth, usable_memory
from app.engine.cache_plan import CachePlan, make_caches, plan_cache
from app.engine.machine import machine_facts
from tests.tiny_model import build_model


def allocated(caches: list[Any]) -> int:
    return sum(c.nbytes for c in caches)


def feed(model: Any, caches: list[Any], tokens: int) -> None:
    mx.eval(model(mx.zeros((1, tokens), mx.int32), cache=caches))


def plan_of(model: Any, *stay: int) -> CachePlan:
    reasons = plan_cache(model).reasons
    return CachePlan(tuple("to be tried" if i in stay else r for i, r in enumerate(reasons)))


@pytest.mark.parametrize("mode", CacheMode)
@pytest.mark.parametrize("group_size", GROUP_SIZES)
@pytest.mark.parametrize(
    ("model_type", "stay"), [("llama", ()), ("llama", (1,)), ("gemma3_text", ()), ("gemma3_text", (0, 3))]
)
def test_growth_is_what_a_real_cache_allocates(
    model_type: str, stay: tuple[int, ...], group_size: int, mode: CacheMode
) -> None:
    model = build_model(model_type, head_dim=64)
    plan = plan_of(model, *stay)
    growth = probed_growth(model, make_caches(model, plan, mode, group_size))
    caches = make_caches(model, plan, mode, group_size)
    feed(model, caches, 40)
    for tokens in (41, 256, 257, 300, 513):
        # The last token is a decode step: after a chunk, mlx-lm's rings hold up to a chunk more than their window.
        feed(model, caches, max(1, tokens - 1 - (caches[1].offset)))
        feed(model, caches, tokens - caches[1].offset) if tokens > caches[1].offset else None
        assert growth.bytes_at(tokens) == allocated(caches), tokens


def test_windows_stop_growing_and_layers_that_grow_do_not() -> None:
    model = build_model("gemma3_text")
    growth = probed_growth(model, make_caches(model, plan_cache(model), CacheMode.FP16, 32))
    row = 2 * 2 * 2 * 32 * 4  # layers, keys and values, heads, head size, float32
    assert set(growth.parts) == {LayerGrowth(2, row, 256, 32), LayerGrowth(2, row, 256)}
    assert growth.token_bytes == row
    assert growth.bytes_at(1024) == 1024 * row + 32 * row


def test_probing_takes_no_memory_and_computes_nothing() -> None:
    model = build_model("llama", head_dim=64)
    plan = plan_cache(model)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    outlook = outlook_of(model, plan, None)
    assert mx.get_peak_memory() <= before + 4096
    assert [i.group_size for i in outlook.int4] == list(GROUP_SIZES)
    token_bytes = [g.growth.token_bytes for g in reversed(outlook.int4)]
    assert 0 < token_bytes[0] < token_bytes[1] < outlook.fp16.token_bytes
    assert outlook.int4_of(48) is None


def test_states_are_counted_once_and_lists_are_opened() -> None:
    state: Any = ArraysCache(1)
    state[0] = mx.zeros((1, 8), mx.float32)
    inner = KVCache()
    inner.update_and_fetch(mx.zeros((1, 2, 3, 16), mx.float16), mx.zeros((1, 2, 3, 8), mx.float16))
    growth = growth_of([state, CacheList(inner)])
    assert growth.bytes_at(1) == 32 + 256 * 2 * (16 + 8) * 2
    assert growth.bytes_at(257) - growth.bytes_at(256) == 256 * growth.token_bytes


def test_memory_is_metals_working_set_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_growth.mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(cache_growth.mx, "device_count", lambda _: 1)
    infos = {mx.gpu: {"max_recommended_working_set_size": 12_000}, None: {"device_name": "the CPU, as the default"}}
    monkeypatch.setattr(cache_growth.mx, "device_info", lambda device=None: infos[device])
    assert usable_memory() == (12_000, "the working set that Metal recommends for this GPU")
    infos[mx.gpu] = {}
    size, source = usable_memory()
    assert source == "three quarters of this machine's physical memory"
    assert size == machine_facts().memory_bytes * 3 // 4
