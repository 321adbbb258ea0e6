"""The caches that quality is compared between: their codings, their bits, what each takes away."""

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from app.chat.quality import Effort
from app.engine.calibration import LayerConstants
from app.engine.codings import (
    AffineCoding,
    OurCoding,
    PlainCoding,
    Variant,
    our_variants,
    plain_variants,
    rounded,
)
from app.engine.model_folder import OpenModel, open_model
from kernels import reference
from kernels.layout import MIN_CODE, Layout
from kernels.rotation import RotationKind
from tests.engine.quality_trial import kl_of, measured
from tests.tiny_model import write_tiny_model


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
