"""The measuring stick: right on known logits, equal to decoding from the int4 cache, and in the order it must show."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.chat.options import CacheMode
from app.chat.quality import Effort, variant_quality
from app.chat.quality import WindowScore as Score
from app.engine import quality
from app.engine.cache_plan import make_caches, plan_cache
from app.engine.coded_cache import coded_caches
from app.engine.codings import (
    OurCoding,
    Variant,
    plain_variants,
)
from app.engine.model_folder import OpenModel
from app.engine.quality import QualityStoppedError, compared, measure
from app.engine.quality_text import QualityText, bundled_texts, dialogues_in, windows_of
from app.errors import NibbleError
from tests.engine.quality_trial import EFFORT, TEXT, measured, never
from tests.tiny_model import build_model

# On given logits.


def test_sums_agree_with_numpy_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "_SLICE_VALUES", 3 * 50)  # slices of 3 rows, the last one shorter
    rng = np.random.default_rng(1)
    own, other = rng.normal(0, 3, (2, 10, 50))
    targets = rng.integers(0, 50, 10)
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (own, other))
    sums = compared(mx.array(own), mx.array(other), mx.array(targets))
    assert sums.nll == pytest.approx(-q[np.arange(10), targets].sum(), rel=1e-5)
    assert sums.kl == pytest.approx((np.exp(p) * (p - q)).sum(), rel=1e-5)
    assert sums.agreed == (own.argmax(-1) == other.argmax(-1)).sum()


def test_kl_is_taken_from_the_reference_and_not_the_other_way_round() -> None:
    sharp, flat = mx.array([[20.0, 0.0, 0.0]]), mx.zeros((1, 3))
    target = mx.array([0])
    assert compared(sharp, flat, target).kl == pytest.approx(np.log(3), rel=1e-4)
    assert compared(flat, sharp, target).kl > 10


def test_logits_that_rule_a_token_out_do_not_spoil_kl() -> None:
    logits = mx.array([[1.0, 2.0, -mx.inf]])
    assert compared(logits, logits, mx.array([1])).kl == 0


def test_a_spread_is_least_to_most_of_few_windows_and_percentiles_of_many() -> None:
    def kl(*values: float) -> Any:
        return variant_quality("v", "", 4.5, [Score(2.0, x, 1.0) for x in values]).kl_nats

    few, many = kl(1, 2, 6), kl(*range(11))
    assert (few.overall, few.low, few.median, few.high) == (3, 1, 2, 6)
    assert (many.low, many.median, many.high) == pytest.approx((2, 5, 8))


def test_perplexity_over_windows_is_that_of_all_their_tokens() -> None:
    whole = variant_quality("v", "", 4.5, [Score(2.0, 0, 1), Score(8.0, 0, 1)]).perplexity
    assert whole.overall == pytest.approx(4.0)


# As deployed.


@pytest.mark.parametrize("model_type", ["qwen2", "gemma3_text"])
def test_one_pass_over_a_coded_cache_is_decoding_from_the_int4_cache(model_type: str) -> None:
    """Gemma's rings hold 32 of the 80 tokens."""
    model = build_model(model_type)
    plan = plan_cache(model)
    tokens = mx.array(np.random.default_rng(2).integers(0, 256, (1, 80)))
    deployed = make_caches(model, plan, CacheMode.INT4, 32)
    steps = []
    for i in range(80):
        steps.append(model(tokens[:, i : i + 1], cache=deployed))
        mx.eval(steps[-1])
    decoded = mx.concatenate(steps, axis=1)[0]
    codings = [OurCoding(layer) for layer in range(len(plan.reasons))]
    caches = coded_caches(model, codings)
    in_one = mx.concatenate([model(tokens[:, :50], cache=caches), model(tokens[:, 50:], cache=caches)], axis=1)[0]
    own = model(tokens, cache=coded_caches(model, [None] * len(codings)))[0]
    gap, cost = compared(decoded, in_one, tokens[0]).kl, compared(own, decoded, tokens[0]).kl
    assert cost > 1e-3
    assert gap < 1e-3 * cost


def test_a_variant_of_16_bits_is_perfect_and_a_destroyed_one_is_not(opened: OpenModel) -> None:
    def nothing(keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return mx.zeros_like(keys), -3 * values

    nothing.bits_per_value = lambda dim: 0.0  # type: ignore[attr-defined]
    report = measured(opened, [plain_variants()[0], Variant("gone", "", lambda layer: nothing)])  # type: ignore
    fp16, gone = report.variants
    assert [w.kl_nats for w in fp16.windows] == [0, 0, 0]
    assert fp16.agreement.overall == 1
    assert gone.kl_nats.low > 0.1
    assert gone.agreement.overall < 0.9
    assert (fp16.bits_per_value, gone.bits_per_value) == (32, 0)  # the tiny model is float32


def test_only_the_second_half_of_a_window_is_scored(opened: OpenModel) -> None:
    """By hand, from one plain pass."""
    report = measured(opened, plain_variants()[:1], Effort(windows=1, context_tokens=97))
    tokens = mx.array(opened.tokenizer.encode(TEXT.text)[:98])
    logits = np.array(opened.model(tokens[None, :97])[0].astype(mx.float32)).astype(np.float64)
    chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll = -chances[np.arange(48, 97), np.array(tokens)[49:98]].mean()
    assert report.scored_tokens == 49
    assert report.variants[0].perplexity.overall == pytest.approx(np.exp(nll), rel=1e-4)


# Text, progress, stop.


def test_a_text_too_short_says_how_many_tokens_it_takes(opened: OpenModel) -> None:
    with pytest.raises(NibbleError, match=r"letters has 616 tokens .* 7 windows of 96 need 673\.") as caught:
        measured(opened, plain_variants()[:1], Effort(7, 96))
    assert "longer text, fewer windows" in caught.value.hint
    with pytest.raises(NibbleError, match=r"can read 2,048 tokens, not 4,096"):
        measured(opened, plain_variants()[:1], Effort(1, 4096))


class Beginning:
    """A tokenizer that begins every text with token 1."""

    has_chat_template = False

    def encode(self, text: str) -> list[int]:
        return [1, *(ord(c) for c in text)]


def test_every_window_begins_as_the_tokenizer_begins_a_text() -> None:
    windows = windows_of(QualityText("t", "abcdefgh"), Beginning(), 2, 4)
    assert windows == [[1, *map(ord, "abcd")], [1, *map(ord, "defg")]]


class Counting(Beginning):
    """Notes how much it is given."""

    longest = 0

    def encode(self, text: str) -> list[int]:
        self.longest = max(self.longest, len(text))
        return super().encode(text)


def test_a_long_text_is_cut_up_only_as_far_as_it_is_read() -> None:
    tokenizer = Counting()
    windows = windows_of(QualityText("t", "abc" * 10_000), tokenizer, 2, 40)
    assert windows == windows_of(QualityText("t", "abc" * 30), Beginning(), 2, 40)
    assert tokenizer.longest < 2_000
    blank = QualityText("t", " " * 2_000 + "abcdefgh")
    tokenizer.encode = lambda text: [1, *(ord(c) for c in text if c != " ")]  # type: ignore[method-assign]
    assert windows_of(blank, tokenizer, 2, 4) == [[1, *map(ord, "abcd")], [1, *map(ord, "defg")]]


def test_dialogues_go_through_the_chat_template(opened: OpenModel) -> None:
    text = QualityText("t", "system: x\nuser: Hi.\nassistant: One\ntwo\n---\nuser: Bye.\n", dialogues=True)
    assert dialogues_in(text.text)[0][2] == {"role": "assistant", "content": "One\ntwo"}
    (window,) = windows_of(text, opened.tokenizer, 1, 20)
    assert opened.tokenizer.decode(window).startswith("<|im_start|>user\nHi.<|im_end|>\n<|im_start|>as")


def test_the_bundled_texts_are_enough_for_the_usual_effort() -> None:
    """With tokenizers that come to 6 characters a token, which is more than any common one."""
    for text in bundled_texts():
        assert len(text.text) > 6 * Effort().windows * Effort().context_tokens
        assert text.text.isascii()
    assert len(dialogues_in(bundled_texts()[1].text)) == 117


def test_progress_is_told_and_a_stop_is_heard(opened: OpenModel) -> None:
    told: list[tuple[float, str]] = []
    measure(opened, TEXT, EFFORT, plain_variants()[:2], "a test", lambda f, what: told.append((f, what)), never)
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0 < fractions[-1] < 1
    assert told[-1][1] == "window 3 of 3, plain int4"
    told.clear()
    with pytest.raises(QualityStoppedError):
        measure(
            opened,
            TEXT,
            EFFORT,
            plain_variants()[:2],
            "a test",
            lambda f, what: told.append((f, what)),
            lambda: len(told) > 3,
        )
    assert len(told) == 4
