"""The diseases are what they claim to be: invisible in float, and in the cache's rows."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import dequantize_model, load_model, load_tokenizer, quantize_model

from app.engine.coded_cache import coded_caches
from app.engine.codings import PlainCoding
from app.engine.quality import compared
from app.engine.quality_text import bundled_texts, windows_of
from app.resources import starter_model_path
from tests.diseases import biased_keys, outliers
from tests.tiny_model import build_model, config_of

PAIRS = (1, 9)
TOKENS = 48
STARTER_TOKENS = 64


def kl(reference: mx.array, logits: mx.array) -> float:
    tokens = mx.zeros(reference.shape[1], mx.int32)
    return compared(reference[0], logits[0], tokens).kl / reference.shape[1]


def own_logits(model: Any, tokens: mx.array) -> mx.array:
    logits: mx.array = model(tokens, cache=make_prompt_cache(model))
    mx.eval(logits)
    return logits


def int4_logits(model: Any, tokens: mx.array) -> mx.array:
    logits: mx.array = model(tokens, cache=coded_caches(model, [PlainCoding()] * len(model.layers)))
    mx.eval(logits)
    return logits


def tiny_tokens() -> mx.array:
    return mx.random.randint(0, 256, (1, TOKENS), key=mx.random.key(5))


def keys_of(model: Any, layer: int) -> mx.array:
    caches = make_prompt_cache(model)
    model(tiny_tokens(), cache=caches)
    keys: mx.array = caches[layer].keys_and_values()[0]
    return keys[0, :, :TOKENS].astype(mx.float32)


def magnitudes(keys: mx.array) -> mx.array:
    """Root mean square of each channel. Shapes: `[Hk, S, D]` to `[Hk, D]`."""
    return mx.sqrt((keys**2).mean(axis=1))


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "gemma3_text", "llama-traditional"])
def test_outliers_stand_in_the_cache_and_change_no_logits(model_type: str) -> None:
    overrides = {"rope_traditional": True} if model_type.endswith("traditional") else {}
    model = build_model(model_type.partition("-")[0], **overrides)
    before, keys = own_logits(model, tiny_tokens()), magnitudes(keys_of(model, 1))
    outliers(model, 24.0, PAIRS)
    assert kl(before, own_logits(model, tiny_tokens())) < 1e-6
    half = keys.shape[-1] // 2
    scaled = {c for i in PAIRS for c in ((2 * i, 2 * i + 1) if overrides else (i, half + i))}
    expected = [24.0 if channel in scaled else 1.0 for channel in range(2 * half)]
    ratios = magnitudes(keys_of(model, 1)) / keys
    assert mx.allclose(ratios, mx.array(expected)[None], rtol=2e-3).item()


def test_only_the_named_layers_fall_ill() -> None:
    model = build_model("llama")
    first = keys_of(model, 0)
    outliers(model, 32.0, PAIRS, layers=[-1])
    assert mx.array_equal(first, keys_of(model, 0)).item()
    assert mx.abs(keys_of(model, 2)).max().item() > 4 * mx.abs(first).max().item()


def test_outliers_of_quantized_projections() -> None:
    model, _ = quantize_model(build_model("qwen2"), config_of("qwen2"), group_size=32, bits=8)
    before = own_logits(model, tiny_tokens())
    largest = mx.abs(keys_of(model, 1)).max().item()
    outliers(model, 32.0, PAIRS)
    assert kl(before, own_logits(model, tiny_tokens())) < 1e-6
    assert mx.abs(keys_of(model, 1)).max().item() > 4 * largest


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_biased_keys_are_a_constant_of_the_slowest_channels(model_type: str) -> None:
    """A large mean that hardly varies from token to token, alone in its channels."""
    model = build_model(model_type, rope_theta=1e6)
    before, healthy = own_logits(model, tiny_tokens()), keys_of(model, 0)
    biased_keys(model, 75.0)
    keys = keys_of(model, 0)
    half = keys.shape[-1] // 2
    slow = mx.array([half - 1, 2 * half - 1])
    mean, spread = keys.mean(axis=1)[:, slow], keys.std(axis=1)[:, slow]
    assert mx.sqrt((mean**2).sum(axis=-1)).min().item() > 5 * spread.max().item()
    rest = mx.array([c for c in range(2 * half) if c not in (half - 1, 2 * half - 1)])
    assert mx.allclose(keys[..., rest], healthy[..., rest], atol=1e-5).item()
    assert kl(before, own_logits(model, tiny_tokens())) < 1e-3


def test_normalized_keys_cannot_be_biased() -> None:
    with pytest.raises(ValueError, match="normalized"):
        biased_keys(build_model("qwen3"), 75.0)


class Starter:
    """The starter's weights, expanded, and what is known of the healthy model, on one window."""

    def __init__(self) -> None:
        self.model = dequantize_model(load_model(starter_model_path())[0])
        self.weights = self.model.parameters()
        window = windows_of(bundled_texts()[0], load_tokenizer(starter_model_path()), 1, STARTER_TOKENS)[0]
        self.tokens = mx.array([window[:-1]])
        self.logits = own_logits(self.healthy(), self.tokens)
        self.int4_kl = kl(self.logits, int4_logits(self.healthy(), self.tokens))

    def healthy(self) -> Any:
        return self.model.update(self.weights)


@pytest.fixture(scope="module")
def starter() -> Starter:
    return Starter()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("disease", "unchanged_kl", "collapse"),
    [
        (lambda model: outliers(model, 32.0, (5, 20, 40, 60)), 1e-3, 10.0),
        (lambda model: biased_keys(model, 75.0, layers=range(8)), 2e-2, 10.0),
        (lambda model: biased_keys(model, 75.0), 2e-2, 3.0),
    ],
    ids=["outliers", "biased keys in all layers", "biased keys"],
)
def test_plain_int4_dies_of_what_bfloat16_hardly_notices(
    starter: Starter, disease: Callable[[Any], Any], unchanged_kl: float, collapse: float
) -> None:
    """A bias in two of eight layers costs the model these two, which is why it collapses less than the others."""
    model = disease(starter.healthy())
    own = own_logits(model, starter.tokens)
    assert kl(starter.logits, own) < unchanged_kl
    assert kl(own, int4_logits(model, starter.tokens)) > collapse * starter.int4_kl
