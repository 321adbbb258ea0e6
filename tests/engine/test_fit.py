"""What a model is said to take, held against what it really takes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.generate import generate_step
from mlx_lm.utils import quantize_model

from app.chat.fit import ModelNeeds
from app.chat.options import GROUP_SIZES, CacheMode
from app.engine import cache_growth
from app.engine.cache_plan import make_caches, plan_cache
from app.engine.estimate import config_needs, folder_needs, shell_of
from app.engine.fit import prefill_chunk, require_fit
from app.engine.mlx_engine import MlxEngine
from app.engine.model_folder import open_model
from app.engine.protocol import Load, Loaded
from app.errors import NibbleError, OverridableError
from tests.tiny_model import build_model, config_of, write_tiny_model

SHAPES = (
    ("llama", {"head_dim": 64}),
    ("gemma3_text", {"head_dim": 64}),
    ("phi3", {"num_key_value_heads": 4}),
    ("gemma2", {"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 32}),
)
SHARED = {
    "num_hidden_layers": 6,
    "num_kv_shared_layers": 3,
    "sliding_window": 32,
    "sliding_window_pattern": 3,
    "head_dim": 64,
    "global_head_dim": 64,
    "vocab_size_per_layer_input": 259,
    "hidden_size_per_layer_input": 32,
}
MLA = {
    "num_hidden_layers": 2,
    "kv_lora_rank": 32,
    "q_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "moe_intermediate_size": 64,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}


def allocated(caches: list[Any]) -> int:
    return sum(c.nbytes for c in caches)


@pytest.mark.parametrize("mode", CacheMode)
@pytest.mark.parametrize(("model_type", "overrides"), [*SHAPES, ("gemma4_text", SHARED), ("deepseek_v3", MLA)])
def test_kv_bytes_of_a_config_are_those_of_allocated_caches(
    model_type: str, overrides: dict[str, Any], mode: CacheMode
) -> None:
    config = config_of(model_type, **overrides) | {"torch_dtype": "float32"}
    needs = config_needs(json.dumps(config))
    model = build_model(model_type, **overrides)
    plan = plan_cache(model)
    assert (needs.layers, needs.int4_layers) == (len(plan.reasons), plan.int4_layers)
    for group_size in GROUP_SIZES:
        caches = make_caches(model, plan, mode, group_size)
        for tokens in (256, 43, 1):  # mlx-lm reserves more where a chunk crosses the end of what is reserved
            mx.eval(model(mx.zeros((1, tokens), mx.int32), cache=caches))
        assert needs.outlook.growth(mode, group_size).bytes_at(300) == allocated(caches)


def test_a_shell_takes_no_memory_and_has_the_size_of_the_real_weights() -> None:
    config = config_of("qwen3", hidden_size=128) | {"quantization": {"group_size": 64, "bits": 4}}
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    shell = shell_of(config)
    needs = config_needs(json.dumps(config))
    assert mx.get_peak_memory() <= before + 200_000  # the tables of rotations, which are constants
    model = build_model("qwen3", hidden_size=128)
    model.set_dtype(mx.bfloat16)
    real, _ = quantize_model(model, {}, group_size=64, bits=4)
    sizes = {name: w.nbytes for name, w in tree_flatten(real.parameters())}
    assert {name: w.nbytes for name, w in tree_flatten(shell.parameters())} == sizes
    assert needs.weight_bytes == 2 * needs.parameters, "expanded, as 4-bit weights are on a CPU"


def test_a_folder_is_assessed_without_reading_its_weights(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny", "gemma3_text")
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    needs = folder_needs(folder)
    assert mx.get_peak_memory() <= before + 200_000
    facts = open_model(folder, lambda _: None).facts
    assert needs.parameters == facts.parameters
    assert needs.weight_bytes <= facts.weight_bytes <= needs.weight_bytes + 100_000, "calibration constants come to it"
    assert needs.context_limit_tokens == facts.context_limit_tokens
    assert facts.outlook is not None
    assert needs.outlook == facts.outlook


@pytest.mark.parametrize("mode", CacheMode)
def test_the_working_set_covers_the_measured_peak_and_not_many_times_over(mode: CacheMode) -> None:
    """Prefill of some chunks and a few steps; MLX's pool is off, as it is bounded apart from this."""
    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 8, "head_dim": 64}
    needs = config_needs(json.dumps(config_of("llama", **sizes) | {"torch_dtype": "float32"}))
    model = build_model("llama", **sizes)
    caches = make_caches(model, plan_cache(model), mode, 32)
    pool_bytes = mx.set_cache_limit(0)
    try:
        mx.clear_cache()
        mx.reset_peak_memory()
        held = mx.get_active_memory()
        tokens = 3 * prefill_chunk("cpu") + 40
        for _ in generate_step(
            mx.zeros((tokens,), mx.int32), model, max_tokens=2, prompt_cache=caches, prefill_step_size=128
        ):
            pass
        mx.eval([c.state for c in caches])
        measured = mx.get_peak_memory() - held - allocated(caches)
    finally:
        mx.set_cache_limit(pool_bytes)
    estimated = needs.outlook.work.bytes_at(tokens, mode)
    assert measured <= estimated <= 2 * measured


def needs_for(budget_bytes: int) -> ModelNeeds:
    needs = config_needs(json.dumps(config_of("llama", head_dim=64, max_position_embeddings=8192)))
    return replace(needs, outlook=replace(needs.outlook, memory_bytes=budget_bytes))


def test_the_longest_context_is_the_last_that_fits_beside_weights_and_work() -> None:
    needs = needs_for(0)
    budget = needs.bytes_at(1000, CacheMode.INT4, 32)
    needs = needs_for(budget)
    longest = needs.longest(CacheMode.INT4, 32)
    assert needs.bytes_at(longest, CacheMode.INT4, 32) <= budget < needs.bytes_at(longest + 1, CacheMode.INT4, 32)
    assert longest >= 1000
    assert needs_for(10**12).longest(CacheMode.INT4, 32) == 8192
    assert needs_for(needs.weight_bytes).longest(CacheMode.INT4, 32) == 0


def test_what_does_not_fit_is_refused_with_the_numbers_and_the_way_out() -> None:
    roomy = needs_for(needs_for(0).bytes_at(4096, CacheMode.INT4, 32))
    require_fit(roomy, "Tiny", CacheMode.INT4, 32)
    with pytest.raises(OverridableError) as refused:
        require_fit(roomy, "Tiny", CacheMode.FP16, 32)
    message, hint = refused.value.message, refused.value.hint
    assert "Tiny does not fit in memory here: a chat of 4,096 tokens takes" in message
    assert "for the KV cache in fp16" in message
    assert roomy.outlook.memory_source in message
    assert f"Up to {roomy.longest(CacheMode.FP16, 32):,} tokens would fit in fp16" in hint
    assert f"up to {roomy.longest(CacheMode.INT4, 32):,} tokens in int4" in hint
    assert "memory budget" not in hint
    with pytest.raises(OverridableError, match=r"\(set in Settings\).*raise the memory budget in Settings"):
        require_fit(roomy.within(roomy.budget_bytes), "Tiny", CacheMode.FP16, 32)
    tight = needs_for(needs_for(0).bytes_at(700, CacheMode.INT4, 32))
    with pytest.raises(OverridableError, match="does not fit") as refused:
        require_fit(tight, "Tiny", CacheMode.INT4, 32)
    assert f"Up to {tight.longest(CacheMode.INT4, 32):,} tokens would fit" in refused.value.hint
    with pytest.raises(OverridableError) as refused:
        require_fit(needs_for(1000), "Tiny", CacheMode.FP16, 32)
    assert "weights alone are too large" in refused.value.hint


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"model_type": "nothing-like-it"}', '{"model_type": "llama"}'], ids=repr
)
def test_a_config_that_makes_no_model_is_said_so(text: str) -> None:
    with pytest.raises(NibbleError, match="makes no model"):
        config_needs(text)


def test_a_model_that_does_not_fit_is_refused_before_the_open_one_is_given_up_and_opens_anyway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = write_tiny_model(tmp_path / "small", max_position_embeddings=64)
    large = write_tiny_model(tmp_path / "large", max_position_embeddings=64, num_hidden_layers=8)
    budget = folder_needs(large).bytes_at(64, CacheMode.INT4, 32) - 1
    monkeypatch.setattr(cache_growth, "usable_memory", lambda: (budget, "what the test allows"))
    engine, events = MlxEngine(), []
    engine.load(Load("1", str(small)), events.append, lambda: False)
    opened = engine._open
    with pytest.raises(OverridableError, match=r"large does not fit in memory here.*what the test allows"):
        engine.load(Load("2", str(large)), events.append, lambda: False)
    assert engine._open is opened
    engine.load(Load("3", str(large), anyway=True), events.append, lambda: False)
    assert isinstance(events[-1], Loaded)
    assert events[-1].model.name == "large"
