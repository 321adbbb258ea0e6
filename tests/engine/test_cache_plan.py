"""Which layers can be int4: found out by trying, and said where not."""

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import llama
from mlx_lm.models.cache import ArraysCache, CacheList, ChunkedKVCache, KVCache, RotatingKVCache

from app.chat.figures import LayerNote
from app.chat.options import CacheMode
from app.engine import cache_plan
from app.engine.cache_figures import cache_figures
from app.engine.cache_plan import make_caches, plan_cache
from app.engine.kv_cache import Int4KVCache, Int4RotatingKVCache
from tests.tiny_model import build_model


def test_rings_stay_rings_with_their_window() -> None:
    model = build_model("gemma3_text")
    plan = plan_cache(model)
    caches = make_caches(model, plan, CacheMode.INT4, 64)
    assert [type(c) for c in caches] == [Int4RotatingKVCache, Int4KVCache] * 2
    assert caches[0].max_size == 32
    assert {c.group_size for c in caches} == {64}
    assert [type(c) for c in make_caches(model, plan, CacheMode.FP16, 64)] == [RotatingKVCache, KVCache] * 2


def test_other_caches_stay_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("llama")
    mixed = [KVCache(), RotatingKVCache(64, keep=4), KVCache()]
    monkeypatch.setattr(cache_plan, "make_prompt_cache", lambda _: list(mixed))
    plan = plan_cache(model)
    assert plan.notes == (LayerNote((1,), "its ring keeps the first tokens for good"),)
    assert plan.int4_layers == 2
    monkeypatch.setattr(
        cache_plan, "make_prompt_cache", lambda _: [ArraysCache(2), CacheList(KVCache(), KVCache()), ChunkedKVCache(8)]
    )
    assert plan_cache(model).notes == (
        LayerNote((0,), "it keeps a recurrent state, no keys and values"),
        LayerNote((1,), "its state is several caches (KVCache, KVCache)"),
        LayerNote((2,), "its state is no plain key/value cache (ChunkedKVCache)"),
    )


def attention_that(change: Any, changed: Any) -> Any:
    """Return llama's attention, replaced by `change` in the layer whose attention is `changed`."""
    original = llama.Attention.__call__

    def call(self: Any, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        return (change if self is changed else original)(self, x, mask, cache)  # type: ignore[no-any-return]

    return call


def with_sinks(self: Any, x: mx.array, mask: Any, cache: Any) -> mx.array:
    return attend(self, x, mask, cache, mx.zeros(self.n_heads))


def attend(self: Any, x: mx.array, mask: Any, cache: Any, sinks: mx.array | None) -> mx.array:
    B, L, _ = x.shape
    q, k, v = (
        p(x).reshape(B, L, n, -1).transpose(0, 2, 1, 3)
        for p, n in ((self.q_proj, self.n_heads), (self.k_proj, self.n_kv_heads), (self.v_proj, self.n_kv_heads))
    )
    k, v = cache.update_and_fetch(k, v)
    out = llama.scaled_dot_product_attention(q, k, v, cache=cache, scale=self.scale, mask=mask, sinks=sinks)
    return self.o_proj(out.transpose(0, 2, 1, 3).reshape(B, L, -1))  # type: ignore[no-any-return]


def own_attention(self: Any, x: mx.array, mask: Any, cache: Any) -> mx.array:
    B, L, _ = x.shape
    k = self.k_proj(x).reshape(B, L, self.n_kv_heads, -1).transpose(0, 2, 1, 3)
    k, _ = cache.update_and_fetch(k, k)
    return x * k.swapaxes(-1, -2).sum()  # type: ignore[no-any-return]


def forgets_the_keys(self: Any, x: mx.array, mask: Any, cache: Any) -> mx.array:
    B, L, _ = x.shape
    k = self.k_proj(x).reshape(B, L, self.n_kv_heads, -1).transpose(0, 2, 1, 3)
    cache.update_and_fetch(k, k)
    return x


def hands_keys_to_mlx(self: Any, x: mx.array, mask: Any, cache: Any) -> mx.array:
    B, L, _ = x.shape
    k = self.k_proj(x).reshape(B, L, self.n_kv_heads, -1).transpose(0, 2, 1, 3)
    q = k
    k, v = cache.update_and_fetch(k, k)
    return x * mx.fast.scaled_dot_product_attention(q, k, v, scale=1.0).sum()


def fails(self: Any, x: mx.array, mask: Any, cache: Any) -> mx.array:
    return x / (1 // 0)


@pytest.mark.parametrize(
    ("change", "layer", "stay", "reason"),
    [
        (with_sinks, 1, (1,), "its attention has learned sinks"),
        (own_attention, 2, (2,), "the model reads its keys or values itself (`swapaxes`)"),
        (forgets_the_keys, 0, (0,), "its attention does not go through mlx-lm's common function"),
        (
            hands_keys_to_mlx,
            1,
            (1,),
            "the model hands its keys or values to MLX itself (`scaled_dot_product_attention`)",
        ),
        (fails, 0, (0, 1, 2), "the model handles its cache in its own way (ZeroDivisionError)"),
    ],
)
def test_a_layer_that_cannot_be_served_keeps_mlx_lms_cache(
    change: Any, layer: int, stay: tuple[int, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model("llama")
    monkeypatch.setattr(llama.Attention, "__call__", attention_that(change, model.layers[layer].self_attn))
    plan = plan_cache(model)
    assert plan.notes == (LayerNote(stay, reason),)
    caches = make_caches(model, plan, CacheMode.INT4, 32)
    if change is not fails:
        mx.eval(model(mx.zeros((1, 20), mx.int32), cache=caches))
        figures = cache_figures(caches, plan, CacheMode.INT4, 32, 20)
        assert (figures.layers_int4, figures.layers_total, figures.notes) == (2, 3, plan.notes)
    assert [type(caches[i]) for i in stay] == [KVCache] * len(stay)


def test_an_architecture_with_its_own_attention_stays_float_as_a_whole() -> None:
    """Gemma 2 caps its scores and multiplies them itself."""
    model = build_model("gemma2", query_pre_attn_scalar=32)
    plan = plan_cache(model)
    assert plan.int4_layers == 0
    assert plan.notes[0].layers == (0, 1, 2)
    caches = make_caches(model, plan, CacheMode.INT4, 32)
    mx.eval(model(mx.zeros((1, 20), mx.int32), cache=caches))
    figures = cache_figures(caches, plan, CacheMode.INT4, 32, 20)
    assert figures.mode is CacheMode.FP16
    assert figures.ratio == 1.0
    assert figures.notes == plan.notes


def test_figures_of_an_int4_conversation() -> None:
    model = build_model("llama", head_dim=128)
    plan = plan_cache(model)
    caches = make_caches(model, plan, CacheMode.INT4, 32)
    mx.eval(model(mx.zeros((1, 300), mx.int32), cache=caches))
    figures = cache_figures(caches, plan, CacheMode.INT4, 32, 300)
    row = 3 * 2 * 2 * 128  # layers, keys and values, heads, head size
    assert figures.fp16_used_bytes == 300 * row * 2
    assert figures.fp16_allocated_bytes == 512 * row * 2
    assert figures.used_bytes == 300 * row * 4.5 / 8
    assert figures.allocated_bytes == 512 * row * 4.5 / 8
    assert figures.ratio == pytest.approx(32 / 9)
    assert figures.path == "cpu, MLX attention, prefill so far"
    mx.eval(model(mx.zeros((1, 1), mx.int32), cache=caches))
    assert cache_figures(caches, plan, CacheMode.INT4, 32, 301).path == "cpu, plain MLX operations"


def test_figures_of_mlx_lms_own_caches() -> None:
    model = build_model("gemma3_text")
    model.set_dtype(mx.bfloat16)
    plan = plan_cache(model)
    caches = make_caches(model, plan, CacheMode.FP16, 32)
    mx.eval(model(mx.zeros((1, 20), mx.int32), cache=caches))
    figures = cache_figures(caches, plan, CacheMode.FP16, 32, 20)
    assert figures.allocated_bytes == sum(c.nbytes for c in caches) == figures.fp16_allocated_bytes
    assert figures.used_bytes == 4 * 20 * 2 * 2 * 32 * 2
    assert (figures.layers_int4, figures.ratio, figures.notes) == (0, 1.0, ())
