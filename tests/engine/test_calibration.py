"""Calibration: its statistics, and what it does to a model with Qwen2's disease."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache

from app.chat.figures import LayerNote
from app.chat.options import CacheMode
from app.engine import calibration, sensitivity
from app.engine.cache_plan import CachePlan, make_caches, plan_cache
from app.engine.calibration import (
    Calibration,
    CalibrationError,
    CalibrationStoppedError,
    LayerConstants,
    Moments,
    calibrate,
    factors,
    start,
)
from app.engine.kv_cache import Int4Cache
from app.engine.sensitivity import TOO_SENSITIVE, beyond_budget, coding, kl_of_layers, sensitive_layers
from app.engine.window_cache import as_they_are, window_caches
from app.resources import calibration_text_path
from kernels import dispatch
from kernels.rotation import Rotation, RotationKind
from tests.diseases import outliers
from tests.engine.coded_cache import CodedKVCache
from tests.tiny_model import build_model

TEXT = "It was the best of times, it was the worst of times; " * 30


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


def never() -> bool:
    return False


def unheard(_: float) -> None:
    pass


def fast(model: Any, plan: CachePlan, **options: Any) -> Calibration:
    return calibrate(model, Bytes(), plan, TEXT, unheard, never, **options)


# Statistics


def test_moments_are_those_of_all_rows_together() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(2, 3, 90, 64)) * np.linspace(0.1, 3, 64) + 50 * rng.normal(size=(2, 3, 1, 64))
    queries, seen = rng.normal(size=(1, 6, 50, 64)) * np.linspace(2, 0.1, 64), []
    moments = Moments(layer=5)
    for piece in (rows[:, :, :40], rows[:, :, 40:43], rows[:, :, 43:]):
        keys, values = mx.array(piece[:1].astype(np.float32)), mx.array(piece[1:].astype(np.float32))
        moments.add(keys, values)
        moments.add_queries(mx.array(queries[:, :, : piece.shape[2]].astype(np.float32)))
        seen.append(queries[0, :, : piece.shape[2]])
    rows = rows.astype(np.float32).astype(np.float64)
    rotation = Rotation(RotationKind.SRFT, 64, 5)
    mean = rows.mean(axis=2)
    energy = (np.concatenate(seen, axis=1).reshape(3, 2, -1, 64) ** 2).sum(axis=(1, 2))
    smooth = (rows[0].var(axis=1) / energy) ** 0.25
    smooth /= np.exp(np.log(smooth).mean(-1, keepdims=True))
    deviations = (rows - mean[:, :, None]) / np.stack([smooth, np.ones((3, 64))])[:, :, None]
    rotated = (deviations * np.array(rotation.signs)) @ np.array(rotation.base, np.float64)
    lam = (rotated**2).mean(axis=2) ** -0.25
    constants = moments.constants()
    np.testing.assert_allclose(np.array(constants.mu), mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.array(constants.smooth), smooth, rtol=1e-4)
    np.testing.assert_allclose(np.array(constants.lam), lam / lam.mean(-1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("query", [0.0, 1.0])
def test_rows_that_never_change_have_factors_all_the_same(query: float) -> None:
    moments = Moments(layer=0)
    moments.add(mx.ones((1, 1, 8, 32)), mx.zeros((1, 1, 8, 32)))
    moments.add_queries(mx.full((1, 2, 8, 32), query))
    constants = moments.constants()
    assert constants.smooth is not None
    assert mx.allclose(constants.smooth, mx.ones((1, 32)), atol=1e-5).item()
    assert constants.lam is not None
    assert mx.isfinite(constants.lam).all().item()
    assert (constants.lam > 0).all().item()


def test_no_smaller_error_is_found_beside_the_factors() -> None:
    """The model of `factors`, in float64: no step in any direction makes the error of the scores smaller."""
    rng = np.random.default_rng(3)
    variance, energy = np.exp(rng.normal(size=(2, 2, 48)))

    def error(smooth: np.ndarray) -> np.ndarray:
        return (energy * smooth**2).sum(-1) * (variance / smooth**2).sum(-1)

    best = np.array(factors(mx.array(variance.astype(np.float32)), mx.array(energy.astype(np.float32))), np.float64)
    assert (error(best) < 0.9 * error(np.ones_like(best))).all()
    for _ in range(50):
        assert (error(best * np.exp(0.05 * rng.normal(size=best.shape))) > error(best)).all()


def test_factors_undo_outliers_exactly_and_a_dead_channel_keeps_them_bounded() -> None:
    """Keys of which some channels are f times as large and queries of which they are as much smaller."""
    variance, energy = mx.random.uniform(0.5, 2.0, (2, 2, 32), key=mx.random.key(6))
    disease = mx.where(mx.arange(32) % 8 == 3, 32.0, 1.0)
    healthy, ill = factors(variance, energy), factors(variance * disease**2, energy / disease**2)
    ratio = np.array(ill / healthy)
    np.testing.assert_allclose(ratio / ratio[:, :1], np.tile(np.array(disease), (2, 1)), rtol=1e-4)
    variance[:, 0], energy[:, 1] = 0.0, 0.0
    dead = np.array(factors(variance, energy))
    assert np.isfinite(dead).all()
    assert (dead.max(-1) / dead.min(-1) < 1000).all()


def test_queries_are_those_that_attend() -> None:
    """GQA included: what the windows show is what mlx-lm's own attention gets, and a handle changes no logits."""
    model = build_model("qwen2")
    plan = plan_cache(model)
    shown: list[tuple[int, mx.array]] = []
    caches = window_caches(
        model, plan.reasons, lambda _: as_they_are, 9, lambda layer: lambda q: shown.append((layer, q))
    )
    tokens = mx.array([Bytes().encode(TEXT)[:20]])
    model(tokens, cache=caches)
    attention = model.layers[0].self_attn
    x = model.layers[0].input_layernorm(model.model.embed_tokens(tokens))
    q = attention.q_proj(x).reshape(1, 20, attention.n_heads, -1).swapaxes(1, 2)
    assert [layer for layer, _ in shown] == [0, 1, 2]
    assert mx.allclose(shown[0][1], attention.rope(q, offset=9), atol=1e-5).item()


def test_rows_are_those_that_the_cache_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """One window: the mean of what mlx-lm's own cache holds after the same tokens, the first one left out."""
    monkeypatch.setattr(calibration, "WINDOWS", 1)
    monkeypatch.setattr(dispatch, "backend", lambda: "cpu")
    model = build_model("qwen2")
    made = fast(model, plan_cache(model))
    caches = [KVCache() for _ in range(3)]
    model(mx.array([Bytes().encode(TEXT)[: calibration.CPU_WINDOW_TOKENS]]), cache=caches)
    for constants, cache in zip(made.layers, caches, strict=True):
        held = mx.concatenate([cache.keys, cache.values])[:, :, 1 : cache.offset].mean(axis=2)
        assert constants.mu is not None
        np.testing.assert_allclose(np.array(constants.mu), np.array(held), atol=1e-5)


@pytest.mark.parametrize("model_type", ["qwen2", "gemma3_text"])
def test_a_window_at_a_far_position_is_read_as_at_the_start(model_type: str) -> None:
    """Rings included: a window's logits are those of mlx-lm's own caches, wherever it stands."""
    model = build_model(model_type)
    tokens = mx.array([Bytes().encode(TEXT)[:100]])
    right = model(tokens, cache=None)
    reasons = ("",) * len(model.layers)
    for offset in (0, 700):
        got = model(tokens, cache=window_caches(model, reasons, lambda _: as_they_are, offset))
        np.testing.assert_allclose(np.array(got), np.array(right), atol=2e-3)


def test_no_token_gets_a_position_that_the_model_does_not_have() -> None:
    model = build_model("llama")
    seen: list[tuple[int, int]] = []
    for layer in model.layers:
        rope = layer.self_attn.rope
        layer.self_attn.rope = lambda x, offset=0, rope=rope: (
            seen.append((offset, x.shape[2])) or rope(x, offset=offset)
        )
    fast(model, plan_cache(model), positions=600)
    assert max(offset + tokens for offset, tokens in seen) <= 600


# What it is for


def key_error(model: Any, layers: tuple[LayerConstants, ...], layer: int = 0) -> float:
    """Return the error of a layer's coded keys on text of another kind, over the keys' own variance."""
    found: list[float] = []

    def rows(at: int) -> Any:
        def measure(keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
            if at == layer:
                coded, _ = coding(at, layers[at])(keys, values)
                spread = keys - keys.mean(axis=2, keepdims=True)
                found.append(float((coded - keys).square().sum().item() / spread.square().sum().item()))  # type: ignore[arg-type]
            return keys, values

        return measure

    tokens = mx.array([list(range(10, 250))])
    mx.eval(model(tokens, cache=window_caches(model, ("",) * len(layers), rows)))
    return found[0]


def diseased() -> Any:
    """Return a model with Qwen2's disease in layer 0: a huge bias of k_proj in the slowest RoPE channels."""
    model = build_model("qwen2", rope_theta=1e6)
    bias = np.array(model.layers[0].self_attn.k_proj.bias).reshape(2, 32)
    bias[:, [12, 13, 14, 15, 28, 29, 30, 31]] = 60.0
    model.layers[0].self_attn.k_proj.bias = mx.array(bias.reshape(-1))
    return model


def test_start_takes_a_huge_bias_out_of_the_keys() -> None:
    model = diseased()
    plan = plan_cache(model)
    nothing = key_error(model, (LayerConstants(),) * 3)
    started = start(model, plan, positions=512)
    assert key_error(model, started.layers) < nothing / 30
    assert key_error(model, fast(model, plan).layers) < nothing / 30


def test_start_knows_nothing_of_a_model_without_a_bias() -> None:
    for model_type in ("llama", "qwen3"):
        model = build_model(model_type)
        assert {c.mu for c in start(model, plan_cache(model)).layers} == {None}


def test_calibration_makes_the_cache_of_a_diseased_model_agree_with_float() -> None:
    model = diseased()
    plan = plan_cache(model)
    assert logit_error(model, plan, fast(model, plan)) < logit_error(model, plan, None) / 3


def test_calibration_makes_a_model_with_outlier_channels_as_good_as_the_healthy_one() -> None:
    model = build_model("qwen2")
    plan = plan_cache(model)
    healthy = logit_error(model, plan, fast(model, plan))
    outliers(model, 32.0, (1, 5, 9))
    made = fast(model, plan)
    assert logit_error(model, plan, made) < 1.3 * healthy
    unsmoothed = replace(made, layers=tuple(replace(c, smooth=None) for c in made.layers))
    assert logit_error(model, plan, unsmoothed) > 5 * healthy


def logit_error(model: Any, plan: CachePlan, calibrated: Calibration | None) -> float:
    """Return how far a decode step's logits are from those with float caches."""
    tokens = mx.array([list(range(20, 180))])
    floats = [KVCache() for _ in range(3)]
    caches = make_caches(model, plan, CacheMode.INT4, 32, calibrated)
    model(tokens, cache=floats)
    model(tokens, cache=caches)
    right, got = (model(mx.array([[7]]), cache=c) for c in (floats, caches))
    return float(mx.linalg.norm(got - right).item())  # type: ignore[arg-type]


class CalibratedOracle(CodedKVCache):
    """As its parent, with a layer's constants."""

    def __init__(self, layer: int, constants: LayerConstants) -> None:
        super().__init__(layer)
        self.code = coding(layer, constants)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        past = self.offset
        k, v = KVCache.update_and_fetch(self, *self.code(keys, values))
        if keys.shape[2] == 1:
            return k, v
        return mx.concatenate([k[..., :past, :], keys], 2), mx.concatenate([v[..., :past, :], values], 2)


def test_decode_with_constants_is_float_attention_on_coded_rows() -> None:
    model = build_model("qwen2")
    plan = plan_cache(model)
    made = fast(model, plan)
    caches = make_caches(model, plan, CacheMode.INT4, 32, made)
    oracle = [CalibratedOracle(i, c) for i, c in enumerate(made.layers)]
    tokens = mx.array([Bytes().encode(TEXT)[:90]])
    for piece in (tokens[:, :50], tokens[:, 50:80], *(tokens[:, i : i + 1] for i in range(80, 90))):
        got, right = model(piece, cache=caches), model(piece, cache=oracle)
        np.testing.assert_allclose(np.array(got), np.array(right), atol=2e-3)
    assert all(isinstance(c, Int4Cache) and c.nbytes == c.buffers.nbytes for c in caches)


# Sensitivity


def planted(layers: int, bad: int) -> Any:
    """Return a model that is all but indifferent to the rows of every layer except `bad`."""
    model = build_model("llama", num_hidden_layers=layers, hidden_size=32, intermediate_size=32, head_dim=32)
    for at, layer in enumerate(model.layers):
        layer.self_attn.o_proj.weight *= 30.0 if at == bad else 0.02
    model.layers[bad].self_attn.q_proj.weight *= 8.0
    model.model.norm.weight *= 40.0
    return model


def test_a_layer_that_int4_harms_is_kept_fp16_and_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "MOST_BITS", 6.0)  # one layer of eight
    model = planted(layers=8, bad=3)
    plan = plan_cache(model)
    made = fast(model, plan)
    assert [i for i, c in enumerate(made.layers) if c.reason] == [3]
    assert plan.calibrated(made).notes == (LayerNote((3,), TOO_SENSITIVE),)
    kept = [i for i, c in enumerate(make_caches(model, plan, CacheMode.INT4, 32, made)) if type(c) is KVCache]
    assert kept == [3]


def test_a_layer_beyond_the_budget_stays_int4_and_it_is_said() -> None:
    model = planted(layers=3, bad=1)
    made = fast(model, plan_cache(model))
    assert [c.reason for c in made.layers] == ["", "", ""]
    assert "layer 1" in made.remarks[0]


def test_kl_is_that_of_the_one_layer() -> None:
    model = planted(layers=3, bad=1)
    kl = kl_of_layers(model, ("", "", "stays"), [LayerConstants()] * 3, list(range(100)), lambda _: None)
    assert set(kl) == {0, 1}
    assert kl[1] > 20 * kl[0] >= 0


def test_who_stands_out_and_what_the_budget_allows() -> None:
    assert sensitive_layers({0: 0.001, 1: 0.002, 2: 0.003}) == []
    assert sensitive_layers({0: 0.00001, 1: 0.05, 2: 0.00001}) == [], "nobody notices 0.05 nats"
    assert sensitive_layers({0: 0.5, 1: 0.6, 2: 0.9}) == [], "then int4 does not suit the model, not the layer"
    assert sensitive_layers({0: 0.2, 1: 0.001, 2: 0.001, 3: 9.0, 4: 0.001}) == [3, 0]
    assert sensitive_layers({}) == []
    assert beyond_budget([0], dict.fromkeys(range(46), 64)) == []  # 4.5 + 11.5 / 46 = 4.75
    assert beyond_budget([0], dict.fromkeys(range(45), 64)) == [0]
    assert beyond_budget([3, 0, 1], dict.fromkeys(range(92), 64)) == [1]


# In words


def test_a_text_too_short_says_so() -> None:
    model = build_model("llama")
    with pytest.raises(CalibrationError, match="only 5 tokens"):
        calibrate(model, Bytes(), plan_cache(model), "Hello", unheard, never)


def test_progress_runs_from_0_to_1_and_stopping_stops() -> None:
    model = build_model("llama")
    plan = plan_cache(model)
    shares: list[float] = []
    calibrate(model, Bytes(), plan, TEXT, shares.append, never)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    shares.clear()
    with pytest.raises(CalibrationStoppedError):
        calibrate(model, Bytes(), plan, TEXT, shares.append, lambda: len(shares) == 2)
    assert len(shares) == 2


def test_the_bundled_text_is_prose_of_known_origin() -> None:
    text = calibration_text_path().read_text(encoding="utf-8")
    assert 30_000 < len(text.encode()) < 60_000
    passages = text.split("\n\n\n")
    assert len(passages) == 10
    assert all(", by " in passage.splitlines()[0] for passage in passages)
