"""Coding and expanding many rows: the Metal text, run on the host, against the reference."""

import mlx.core as mx
import numpy as np
import pytest

from kernels import bulk, reference
from kernels.codec import Codec
from kernels.layout import ZERO_WORD
from kernels.rotation import Rotation, RotationKind
from tests.metal_host.fixtures import require_compiler

require_compiler()
pytestmark = pytest.mark.usefixtures("on_metal_host")

HEAD_SIZES = [64, 80, 96, 128, 192, 256]
NOT_BFLOAT16 = [(64, mx.float16), (96, mx.float32), (128, mx.float16), (256, mx.float32)]
"""Sizes with a type that NumPy has: the emulator passes others on without their strides."""
MOST_DIFFERING_CODES = 1e-4
MOST_DIFFERING_SCALES = 1e-3
MOST_DIFFERING_CHOICES = 1e-4


def codec_of(head_dim: int, group_size: int = 32, calibrated: bool = False) -> Codec:
    """Return a codec for two heads."""
    rng = np.random.default_rng(head_dim)
    mu = mx.array(rng.normal(0, 1, (2, 2, head_dim)), mx.float32) if calibrated else None
    lam = mx.array(rng.uniform(0.5, 2, (2, 2, head_dim)), mx.float32) if calibrated else None
    return Codec(Rotation(RotationKind.SRFT, head_dim, 3), group_size, mu, lam)


def smooth_of(head_dim: int) -> mx.array:
    """Return factors of two heads that differ. Shapes: `[2, D]`."""
    return mx.array(np.random.default_rng(head_dim + 1).uniform(0.25, 8, (2, head_dim)), mx.float32)


def rows_of(head_dim: int, tokens: int, batch: int = 1, dtype: mx.Dtype = mx.bfloat16) -> mx.array:
    """Return keys and values of two heads. Shapes: `[2, B, 2, L, D]`."""
    return mx.random.normal((2, batch, 2, tokens, head_dim), key=mx.random.key(tokens)).astype(dtype)


def assert_as_the_reference(codec: Codec, rows: mx.array, codes: mx.array, scales: mx.array) -> None:
    """Codes may differ by one, and scales by half's last bit, where rounding errors meet an edge; both seldom.

    In a small sample that is a few times at most. Where two tried scales give the same squared error but for rounding,
    another one may be taken and all codes of the group differ: most seldom, and its error must be the reference's.
    """
    right_codes, right_scales = reference.quantize(codec, rows)
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    got_scales, right_scales = np.array(scales), np.array(right_scales)
    elsewhere = ~np.isclose(got_scales, right_scales, rtol=1e-3, atol=0, equal_nan=True)
    if elsewhere.any():
        assert elsewhere.sum() <= 1 + MOST_DIFFERING_CHOICES * elsewhere.size
        exact = coded_values(codec, rows)
        error, right_error = (group_errors(codec, exact, *c) for c in ((codes, scales), (right_codes, right_scales)))
        np.testing.assert_allclose(error[elsewhere], right_error[elsewhere], rtol=1e-5)
    size = codec.group_size
    same = ~np.repeat(elsewhere, size, axis=-1)[..., : codec.rotation.dim]
    got, right = ((np.array(words)[..., None] >> shifts & 15).astype(int) for words in (codes, right_codes))
    got, right = (x.reshape(*x.shape[:-2], -1)[..., : codec.rotation.dim][same] for x in (got, right))
    assert np.abs(got - right).max() <= 1
    assert (got != right).sum() <= 1 + MOST_DIFFERING_CODES * got.size
    got_scales, right_scales = got_scales[~elsewhere], right_scales[~elsewhere]
    np.testing.assert_allclose(got_scales, right_scales, rtol=1e-3)
    differing = (got_scales != right_scales) & ~np.isnan(right_scales)
    assert differing.sum() <= 3 + MOST_DIFFERING_SCALES * differing.size


def coded_values(codec: Codec, rows: mx.array) -> np.ndarray:
    """Return what is rounded to codes. Shapes: `[2, B, 2, L, D]`."""
    x = rows.astype(mx.float32)
    x = x if codec.mu is None else x - codec.mu[:, None, :, None]
    if codec.smooth is not None:
        x = x / mx.stack([codec.smooth, mx.ones_like(codec.smooth)])[:, None, :, None]
    x = codec.rotation.apply(x)
    return np.array(x if codec.lam is None else x * codec.lam[:, None, :, None], np.float64)


def group_errors(codec: Codec, exact: np.ndarray, codes: mx.array, scales: mx.array) -> np.ndarray:
    """Return the squared error of each group. Shapes: `[2, B, 2, L, N]`."""
    squared = (np.array(reference.unpack(codec.layout, codes, mx.array(scales)), np.float64) - exact) ** 2
    starts = np.arange(0, exact.shape[-1], codec.group_size)
    sums: np.ndarray = np.add.reduceat(squared, starts, axis=-1)
    return sums


def relative(got: mx.array, right: mx.array) -> float:
    got, right = got.astype(mx.float32), right.astype(mx.float32)
    return float(mx.linalg.norm(got - right) / mx.linalg.norm(right))


@pytest.mark.parametrize("head_dim", HEAD_SIZES)
@pytest.mark.parametrize(("group_size", "calibrated"), [(32, False), (64, True)])
def test_append_gives_the_references_codes(head_dim: int, group_size: int, calibrated: bool) -> None:
    codec = codec_of(head_dim, group_size, calibrated)
    for tokens, batch in ((100, 1), (33, 2), (5, 1), (1, 1)):
        rows = rows_of(head_dim, tokens, batch)
        assert_as_the_reference(codec, rows, *bulk.quantize(codec, "metal", rows[0], rows[1]))


@pytest.mark.parametrize("head_dim", [80, 128])
def test_mu_or_lambda_may_stand_alone(head_dim: int) -> None:
    both = codec_of(head_dim, 32, True)
    rows = rows_of(head_dim, 11)
    for codec in (Codec(both.rotation, 32, mu=both.mu), Codec(both.rotation, 32, lam=both.lam)):
        codes, scales = bulk.quantize(codec, "metal", rows[0], rows[1])
        assert_as_the_reference(codec, rows, codes, scales)
        right = mx.stack(list(reference.dequantize(codec, codes, scales, mx.float32)))
        assert relative(bulk.dequantize(codec, "metal", codes, scales, mx.float32), right) < 1e-6


@pytest.mark.parametrize("head_dim", HEAD_SIZES)
def test_keys_are_smoothed_with_and_without_mu_and_lambda(head_dim: int) -> None:
    both, smooth = codec_of(head_dim, 32, True), smooth_of(head_dim)
    rows = rows_of(head_dim, 33)
    for mu, lam in ((both.mu, both.lam), (None, both.lam), (both.mu, None), (None, None)):
        codec = Codec(both.rotation, 32, mu, lam, smooth)
        codes, scales = bulk.quantize(codec, "metal", rows[0], rows[1])
        assert_as_the_reference(codec, rows, codes, scales)
        right = mx.stack(list(reference.dequantize(codec, codes, scales, mx.float32)))
        assert relative(bulk.dequantize(codec, "metal", codes, scales, mx.float32), right) < 1e-6


@pytest.mark.parametrize(("head_dim", "dtype"), NOT_BFLOAT16)
def test_inputs_may_lie_in_any_way(head_dim: int, dtype: mx.Dtype) -> None:
    """As a model's reshapes and splits leave them, and in ways that allow only one value to be read at a time."""
    codec = codec_of(head_dim)
    rows = mx.random.normal((2, 2, 9, 2 * head_dim + 5), key=mx.random.key(0)).astype(dtype)
    views = [
        mx.contiguous(rows[..., :head_dim].swapaxes(1, 2)).swapaxes(1, 2),
        mx.contiguous(rows[..., : 2 * head_dim])[..., head_dim:],
        mx.broadcast_to(mx.contiguous(rows[:, :1, :, :head_dim]), (2, 2, 9, head_dim)),
        rows[..., :head_dim],
        rows[..., 1 : 2 * head_dim : 2],
    ]
    for keys in views:
        for values in (views[0], keys):
            mx.eval(keys, values)
            codes, scales = bulk.quantize(codec, "metal", keys, values)
            right = bulk.quantize(codec, "metal", mx.contiguous(keys), mx.contiguous(values))
            assert mx.array_equal(codes, right[0])
            assert mx.array_equal(scales, right[1])


@pytest.mark.parametrize("head_dim", HEAD_SIZES)
def test_what_is_not_finite_spoils_its_own_row_only(head_dim: int) -> None:
    codec = codec_of(head_dim)
    rows = rows_of(head_dim, 20)
    rows[0, 0, 0, 3, 1] = float("nan")
    rows[0, 0, 1, 4, head_dim - 1] = float("inf")
    rows[1, 0, 0, 5, 0] = float("-inf")
    rows[1, 0, 1, 6, 2:4] = mx.array([float("inf"), float("-inf")])
    rows[1, 0, 1, 7] = 1e30  # finite, and beyond what a float16 scale holds
    codes, scales = bulk.quantize(codec, "metal", rows[0], rows[1])
    spoilt = [(0, 0, 0, 3), (0, 0, 1, 4), (1, 0, 0, 5), (1, 0, 1, 6)]
    assert np.isnan(np.array(scales)[1, 0, 1, 7]).any()
    rows[1, 0, 1, 7] = 0.0  # elsewhere its groups are rounding errors of 1e30, which no two transforms share
    others = mx.array([token for token in range(20) if token != 7])
    assert_as_the_reference(codec, *(mx.take(a, others, axis=3) for a in (rows, codes, scales)))
    expanded = np.array(bulk.dequantize(codec, "metal", codes, scales, mx.float32))
    for row in spoilt:
        assert np.isnan(expanded[row]).all()
    assert np.isfinite(expanded[0, 0, 0, 4:]).all()


@pytest.mark.parametrize("head_dim", HEAD_SIZES)
def test_one_value_that_is_not_finite_spoils_every_group_wherever_it_stands(head_dim: int) -> None:
    codec = codec_of(head_dim)
    here = mx.eye(head_dim, dtype=mx.bool_)[None, None]
    rows = rows_of(head_dim, head_dim)
    for kind in ("inf", "-inf", "nan"):
        keys, values = (mx.where(here, mx.array(float(kind), mx.bfloat16), half) for half in rows)
        codes, scales = bulk.quantize(codec, "metal", keys, values)
        assert np.isnan(np.array(scales)).all()
        assert (np.array(codes) == ZERO_WORD).all()


@pytest.mark.parametrize("head_dim", [80, 128])
def test_zeros_and_values_that_float16_scales_barely_hold(head_dim: int) -> None:
    codec = codec_of(head_dim)
    rows = rows_of(head_dim, 40) * (10.0 ** (-mx.arange(40) / 4)).astype(mx.bfloat16)[:, None]
    rows[1] = 0.0
    assert_as_the_reference(codec, rows, *bulk.quantize(codec, "metal", rows[0], rows[1]))


@pytest.mark.parametrize("head_dim", HEAD_SIZES)
@pytest.mark.parametrize(("group_size", "calibrated"), [(32, False), (64, True)])
def test_dequantize_gives_the_references_rows(head_dim: int, group_size: int, calibrated: bool) -> None:
    """It reads views of a cache's buffers, whose other rows hold NaN scales."""
    codec = codec_of(head_dim, group_size, calibrated)
    for tokens, batch in ((33, 2), (1, 1)):
        right_codes, right_scales = reference.quantize(codec, rows_of(head_dim, tokens, batch))
        room = [(0, 0)] * 3 + [(0, 7), (0, 0)]
        codes = mx.pad(right_codes, room, constant_values=mx.array(0xF0F0F0F0, mx.uint32))[..., :tokens, :]
        scales = mx.pad(right_scales, room, constant_values=mx.array(float("nan"), mx.float16))[..., :tokens, :]
        mx.eval(codes, scales)
        right = mx.stack(list(reference.dequantize(codec, right_codes, right_scales, mx.float32)))
        assert relative(bulk.dequantize(codec, "metal", codes, scales, mx.float32), right) < 1e-6


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
@pytest.mark.parametrize("head_dim", [96, 128])
def test_rows_of_sixteen_bits_are_rounded_once(head_dim: int, dtype: mx.Dtype) -> None:
    codec = codec_of(head_dim)
    codes, scales = reference.quantize(codec, rows_of(head_dim, 9))
    exact = bulk.dequantize(codec, "metal", codes, scales, mx.float32)
    assert mx.array_equal(bulk.dequantize(codec, "metal", codes, scales, dtype), exact.astype(dtype))


@pytest.mark.parametrize("head_dim", bulk.SHARED_SIZES)
def test_any_number_of_threadgroups_gives_the_same_bytes(on_metal_host, head_dim: int) -> None:
    codec = codec_of(head_dim)
    rows = rows_of(head_dim, 200)
    results = []
    for threadgroups in (1, 12, 1024):
        codes, scales = bulk.quantize(codec, "metal", rows[0], rows[1], threadgroups)
        expanded = bulk.dequantize(codec, "metal", codes, scales, mx.float32, threadgroups)
        results.append((codes, scales, expanded))
    for result in results[1:]:
        assert all(mx.array_equal(a, b) for a, b in zip(result, results[0], strict=True))
    assert max(launch.threadgroup_bytes for launch in on_metal_host.launches) <= 16384


@pytest.mark.parametrize(("head_dim", "dtype"), NOT_BFLOAT16)
def test_every_byte_is_moved_once(on_metal_host, head_dim: int, dtype: mx.Dtype) -> None:
    """Counted by the emulator: full tiles read no row twice, and views are read where they lie."""
    if on_metal_host.build != "checked":
        pytest.skip("bytes are counted in the checked build")
    codec = codec_of(head_dim)
    rows = rows_of(head_dim, 64, dtype=dtype).swapaxes(2, 3)
    keys, values = (mx.contiguous(half).swapaxes(1, 2) for half in rows)
    mx.eval(keys, values)
    codes, scales = bulk.quantize(codec, "metal", keys, values)
    traffic = on_metal_host.last.traffic
    assert traffic["keys"].read == traffic["keys"].touched == keys.nbytes
    assert traffic["values"].read == traffic["values"].touched == values.nbytes
    assert traffic["codes"].written == codes.nbytes
    assert traffic["scales"].written == scales.nbytes
    expanded = bulk.dequantize(codec, "metal", codes, scales, mx.float32)
    assert on_metal_host.last.traffic["codes"].touched == codes.nbytes
    assert on_metal_host.last.traffic["expanded"].written == expanded.nbytes


def test_reasons_against() -> None:
    assert bulk.reason_against(codec_of(80), mx.bfloat16) == ""
    assert "int32" in bulk.reason_against(codec_of(128), mx.int32)
    assert "srht" in bulk.reason_against(Codec(Rotation(RotationKind.SRHT, 64, 0), 32), mx.float16)
    assert "2048" in bulk.reason_against(codec_of(2048), mx.float16)


@pytest.mark.parametrize("head_dim", [80, 128])
def test_one_scale_that_is_not_the_best_is_found_out(head_dim: int) -> None:
    """The policy itself: a single group is forgiven another scale only where its error is the reference's."""
    codec, rows = codec_of(head_dim), rows_of(head_dim, 33)
    codes, scales = (mx.array(a) for a in reference.quantize(codec, rows))
    assert_as_the_reference(codec, rows, codes, scales)
    scales[0, 0, 0, 0, 0] = scales[0, 0, 0, 0, 0] * 1.05
    with pytest.raises(AssertionError):
        assert_as_the_reference(codec, rows, codes, scales)
