"""The measuring stick: right on known logits, equal to decoding from the int4 cache, and in the order it must show."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.__main__ import command_line, main
from app.chat.options import CacheMode
from app.chat.quality import MOST_PASSES, Effort, QualityReport, csv_text, json_text, reports_from_json, variant_quality
from app.chat.quality import WindowScore as Score
from app.engine import model_folder, quality, quality_command
from app.engine.cache_plan import make_caches, plan_cache
from app.engine.calibration import Calibration, LayerConstants
from app.engine.coded_cache import coded_caches
from app.engine.codings import (
    AffineCoding,
    OurCoding,
    PlainCoding,
    Variant,
    our_variants,
    plain_variants,
    rounded,
)
from app.engine.model_folder import Calibrating, OpenModel, open_model
from app.engine.quality import QualityStoppedError, compared, measure, measure_deployed
from app.engine.quality_text import QualityText, bundled_texts, dialogues_in, own_text, windows_of
from app.errors import NibbleError
from app.paths import default_paths
from kernels import reference
from kernels.layout import MIN_CODE, Layout
from kernels.rotation import RotationKind
from tests.tiny_model import build_model, write_tiny_model

EFFORT = Effort(windows=3, context_tokens=96)
TEXT = QualityText("letters", "The quick brown fox jumps over the lazy dog, and nobody knows why it should. " * 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def opened(folder: Path) -> OpenModel:
    return open_model(folder, lambda _: None)


def silent(fraction: float, what: str) -> None:
    pass


def never() -> bool:
    return False


def measured(opened: OpenModel, variants: list[Variant], effort: Effort = EFFORT) -> QualityReport:
    return measure(opened, TEXT, effort, variants, "a test", silent, never)


def kl_of(report: QualityReport) -> dict[str, float]:
    return {v.name: v.kl_nats.overall for v in report.variants}


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


# The codings.


@pytest.mark.parametrize(("dim", "group_size"), [(64, 32), (80, 64)])
def test_rounding_here_is_that_of_the_format(dim: int, group_size: int) -> None:
    """Variants that the format does not offer differ from it by nothing else; a last group may be shorter."""
    rows = mx.random.normal((2, 1, 2, 7, dim), key=mx.random.key(3))
    layout = Layout(dim, group_size)
    expected = reference.unpack(layout, *reference.pack(layout, rows))
    assert mx.allclose(rounded(rows, group_size, MIN_CODE), expected, atol=1e-5)


def test_one_scale_for_a_head_of_one_group_is_ours_in_the_format() -> None:
    keys, values = mx.random.normal((2, 1, 2, 7, 64), key=mx.random.key(3))
    mu, lam = mx.random.normal((2, 2, 64)), mx.random.uniform(0.5, 2.0, (2, 2, 64))
    coding = OurCoding(5, 64, mu=mu, smooth=mx.random.uniform(0.5, 2.0, (2, 64)), lam=lam)
    whole_row = replace(coding, group_size=0)
    for a, b in zip(coding(keys, values), whole_row(keys, values), strict=True):
        assert mx.allclose(a, b, atol=1e-4)


def test_the_largest_value_gets_the_lowest_code() -> None:
    """Unless another scale is tried and found better."""
    rows = mx.array([[0.5, -0.25, 4.0, 0.0]])
    assert rounded(rows, 4, MIN_CODE, (1.0,)).tolist() == [[0.5, 0.0, 4.0, 0.0]]
    assert rounded(rows, 4, -7)[0, 2].item() == pytest.approx(4.0, rel=1e-3)
    assert rounded(mx.zeros((1, 4)), 4, MIN_CODE).tolist() == [[0.0] * 4]


@pytest.mark.parametrize(
    ("coding", "bits"),
    [
        (PlainCoding(), 4.125),
        (AffineCoding(64), 4.5),
        (AffineCoding(32), 5.0),
        (OurCoding(0, 32), 4.5),
        (OurCoding(0, 64), 4.25),
        (OurCoding(0, 0), 4.125),
    ],
)
def test_bits_follow_from_the_format(coding: PlainCoding | AffineCoding | OurCoding, bits: float) -> None:
    assert coding.bits_per_value(128) == bits
    assert isinstance(coding, OurCoding) or coding(*mx.ones((2, 1, 1, 3, 128)))[0].shape == (1, 1, 3, 128)


def test_every_ingredient_is_taken_away_once_and_layers_that_stay_fp16_count_as_such(opened: OpenModel) -> None:
    ones = mx.ones((2, 2, 32))
    whole = LayerConstants(ones, ones[0], 2 * ones)
    layers = [whole, whole, replace(whole, reason="too sensitive")]
    variants = our_variants(layers)
    made = {v.name: v.coding_of(0) for v in variants}
    assert made["ours g32, no rotation"].kind is RotationKind.IDENTITY  # type: ignore[union-attr]
    assert made["ours g32, no smoothing"].smooth is None  # type: ignore[union-attr]
    assert made["ours g32, no choice of scales"].choices == (1.0,)  # type: ignore[union-attr]
    assert made["ours g32"].smooth is whole.smooth  # type: ignore[union-attr]
    assert [v.name for v in variants if v.coding_of(0).lam is not None] == ["ours g32, with lambda"]  # type: ignore
    for which, name in enumerate(("keys", "values")):
        mu = made[f"ours g32, {name} not centred"].mu  # type: ignore[union-attr]
        assert [bool((part == 0).all()) for part in mu] == [i == which for i in (0, 1)]
    assert len({v.name for v in variants}) == len(variants) == 10
    assert {v.coding_of(2) for v in variants} == {None}
    report = measured(opened, variants[:1], Effort(1, 64))
    assert report.variants[0].bits_per_value == pytest.approx((4.5 + 4.5 + 32) / 3)


def test_without_calibration_no_variant_changes_what_is_not_there() -> None:
    names = [v.name for v in our_variants([LayerConstants(), LayerConstants()])]
    assert not [name for name in names if any(part in name for part in ("lambda", "centred", "smoothing"))]


def test_rotation_saves_a_model_with_outlier_channels(tmp_path: Path) -> None:
    """One RoPE pair of every key is made 16 times as large, and the queries' as much smaller: the same function."""
    opened = open_model(write_tiny_model(tmp_path / "diseased", head_dim=64, hidden_size=256), lambda _: None)
    named = {v.name: v for v in [*plain_variants(), *our_variants([LayerConstants()] * 3)]}
    variants = [named[name] for name in ("fp16", "plain int4", "ours g32", "ours g32, no rotation")]
    healthy = kl_of(measured(opened, variants, Effort(2, 64)))
    for layer in opened.model.layers:
        attention = layer.self_attn
        for projection, factor in ((attention.k_proj, 16.0), (attention.q_proj, 1 / 16)):
            channel = mx.where(mx.arange(projection.weight.shape[0]) % 32 == 5, factor, 1.0)
            projection.weight = projection.weight * channel[:, None]
            projection.bias = projection.bias * channel
    diseased = kl_of(measured(opened, variants, Effort(2, 64)))
    assert healthy["fp16"] == diseased["fp16"] == 0
    assert diseased["plain int4"] > 5 * healthy["plain int4"]
    assert diseased["plain int4"] > 3 * diseased["ours g32"]
    assert diseased["ours g32, no rotation"] > diseased["ours g32"]


def test_a_variant_that_the_head_size_does_not_allow_is_left_out_and_named(opened: OpenModel) -> None:
    report = measured(opened, [Variant("mlx affine g64", "", lambda layer: AffineCoding(64)), *plain_variants()[:1]])
    assert [v.name for v in report.variants] == ["fp16"]
    assert report.remarks == ("mlx affine g64 is left out: a head of 32 values has no whole groups of 64.",)


def test_a_variant_that_breaks_the_model_is_left_out_and_named(opened: OpenModel) -> None:
    broken = OurCoding(0, mu=mx.full((2, 2, 32), float("nan")))
    report = measured(opened, [Variant("broken", "", lambda layer: broken), *plain_variants()[:1]])
    assert [v.name for v in report.variants] == ["fp16"]
    assert report.remarks == ("broken is left out: its logits are not finite.",)


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


# What comes out.


def test_json_holds_everything_and_csv_the_table(opened: OpenModel) -> None:
    report = measured(opened, plain_variants()[:2])
    assert reports_from_json(json_text([report])) == (report,)
    head, *lines = (line.split(",") for line in csv_text([report, report]).splitlines())
    assert len(lines) == 4
    row = dict(zip(head, lines[1], strict=False))
    assert row["variant"] == "plain int4"
    assert float(row["kl_nats_high"]) == report.variants[1].kl_nats.high
    assert row["text_sha256"] == report.text_sha256
    assert row["spread_kind"] == "min to max"


def test_the_command_prints_a_table_and_writes_both_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, files = tmp_path / "own.txt", {kind: tmp_path / f"figures.{kind}" for kind in ("csv", "json")}
    text.write_text(TEXT.text)
    argv = ["--quality", "--model", str(folder), "--text", str(text), "--windows", "1", "--context", "64"]
    assert main([*argv, "--csv", str(files["csv"]), "--json", str(files["json"])]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("tiny (qwen2, float32) on own.txt: 1 window of 64 tokens, the last 32 of each scored.\n")
    (report,) = json.loads(files["json"].read_text())["reports"]
    names = [variant["name"] for variant in report["variants"]]
    assert names[:2] == ["fp16", "plain int4"]
    assert {"mlx affine g32", "ours g32, uncalibrated", "ours g32", "ours g64", "ours g32, no rotation"} <= set(names)
    assert [line.split("  ")[0] for line in out.splitlines()[3 : 3 + len(names)]] == names
    assert len(files["csv"].read_text().splitlines()) == 1 + len(names)


def test_the_command_names_layers_that_calibration_keeps_in_fp16(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = (LayerConstants(), LayerConstants(reason="it suffers"), LayerConstants())
    monkeypatch.setattr(model_folder, "calibrate", lambda *_: Calibration(layers, "another text", ("It was hard.",)))
    text = tmp_path / "own.txt"
    text.write_text(TEXT.text)
    assert main(["--quality", "--model", str(folder), "--text", str(text), "--windows", "1", "--context", "32"]) == 0
    out = capsys.readouterr().out
    assert "Constants of ours: another text." in out
    assert "fp16 in ours, layers 1: it suffers.\nIt was hard.\n" in out


def test_the_calibration_is_that_of_the_window_and_made_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "own.txt"
    text.write_text(TEXT.text)
    argv = ["--quality", "--model", str(folder), "--text", str(text), "--windows", "1", "--context", "32"]
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert len(list(default_paths().calibrations.iterdir())) == 1

    def never_again(*_: object) -> None:
        raise AssertionError("calibrated anew")

    monkeypatch.setattr(model_folder, "calibrate", never_again)
    assert main(argv) == 0
    assert capsys.readouterr().out == first
    assert "Constants of ours: calibration." in first


def test_layers_that_calibration_keeps_in_fp16_are_so_in_ours_alone(folder: Path) -> None:
    layers = (LayerConstants(), LayerConstants(reason="it suffers"), LayerConstants())
    kept = Calibration(layers, "a test")
    opened = open_model(folder, lambda _: None)
    plan = opened.plan.calibrated(kept)
    assert plan.int4_layers == 2
    report = measure_deployed(replace(opened, plan=plan, calibration=kept), TEXT, Effort(1, 32), silent, never)
    bits = {v.name: v.bits_per_value for v in report.variants}
    assert bits["plain int4"] == bits["ours g32, uncalibrated"] == 4.5
    assert bits["ours g32"] == pytest.approx((4.5 + 4.5 + 32) / 3)
    assert report.remarks[0] == "fp16 in ours, layers 1: it suffers."


def test_no_window_is_read_more_often_than_it_is_said_to_be(folder: Path, tmp_path: Path) -> None:
    opened = open_model(folder, lambda _: None, Calibrating(tmp_path, lambda _: None, never))
    report = measure_deployed(opened, TEXT, Effort(1, 32), silent, never)
    left_out = sum("left out" in remark for remark in report.remarks)
    assert 1 + len(report.variants) + left_out == MOST_PASSES


def test_the_command_refuses_in_a_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quality", "--text", str(tmp_path / "none.txt")]) == 1
    assert capsys.readouterr().err.startswith(f"nibble: The text in {tmp_path / 'none.txt'} cannot be read")
    assert main(["--quality", "--csv", str(tmp_path / "none" / "a.csv")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(NibbleError, match="not text in UTF-8"):
        own_text(tmp_path / "latin.txt")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--windows", "2"], "--windows needs --quality"),
        (["--prompt", "x", "--csv", "a.csv"], "--csv needs --quality"),
        (["--quality", "--greedy"], "--temperature does not go with --quality"),
        (["--quality", "--windows", "0"], "must be 1 or more"),
    ],
)
def test_options_stand_with_the_one_they_belong_to(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    assert said in capsys.readouterr().err


def test_ctrl_c_ends_in_good_order(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: argparse.Namespace, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quality_command, "run", interrupted)
    assert quality_command.main(command_line().parse_args(["--quality"])) == 130
    assert capsys.readouterr() == ("", "")
