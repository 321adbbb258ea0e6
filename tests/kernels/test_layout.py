"""The format's arithmetic, and its byte order against NumPy and against MLX's own packing."""

import mlx.core as mx
import numpy as np
import pytest

from kernels import reference
from kernels.layout import CODES_PER_WORD, SCALE_CHOICES, SMALLEST_TRIED, Layout

HEAD_SIZES = [16, 20, 64, 72, 80, 96, 112, 128, 192, 256]


@pytest.mark.parametrize(
    ("head_dim", "group_size", "row_bytes", "bits"),
    [(128, 32, 72, 4.5), (128, 64, 68, 4.25), (64, 32, 36, 4.5), (256, 64, 136, 4.25), (80, 32, 46, 4.6)],
)
def test_bytes_of_a_row(head_dim: int, group_size: int, row_bytes: int, bits: float) -> None:
    layout = Layout(head_dim, group_size)
    assert layout.row_bytes == row_bytes
    assert layout.bits_per_value == pytest.approx(bits)


@pytest.mark.parametrize(("head_dim", "group_size"), [(0, 32), (-2, 32), (7, 32), (128, 16), (128, 128)])
def test_a_shape_that_is_not_offered_is_refused(head_dim: int, group_size: int) -> None:
    with pytest.raises(ValueError, match=r"\[layout\]"):
        Layout(head_dim, group_size)


def numpy_pack(rows: np.ndarray, group_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return words, scales and codes of `rows` `[n, D]`, in float64 but for the float16 scale."""
    n, dim = rows.shape
    groups = -(-dim // group_size)
    padded = np.zeros((n, groups * group_size))
    padded[:, :dim] = rows
    grouped = padded.reshape(n, groups, group_size)
    low, high = grouped.min(-1), grouped.max(-1)
    tried = [(np.where(-low >= high, low, high) / -8 * choice).astype(np.float16) for choice in SCALE_CHOICES]
    coded = [numpy_codes(grouped, scales) for scales in tried]
    errors = [((grouped - c * s[..., None].astype(np.float64)) ** 2).sum(-1) for c, s in zip(coded, tried, strict=True)]
    best = np.where(np.abs(tried[0]) < SMALLEST_TRIED, 0, np.argmin(errors, axis=0))
    scales = np.take_along_axis(np.stack(tried), best[None], axis=0)[0]
    codes = np.take_along_axis(np.stack(coded), best[None, ..., None], axis=0)[0].reshape(n, -1)
    words = -(-dim // CODES_PER_WORD)
    nibbles = (codes[:, : words * CODES_PER_WORD] + 8).astype(np.uint64).reshape(n, words, CODES_PER_WORD)
    packed = sum(nibbles[..., i] << np.uint64(4 * i) for i in range(CODES_PER_WORD)).astype(np.uint32)
    return packed, scales, codes[:, :dim]


def numpy_codes(groups: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return int64 codes of groups `[..., G]` for one scale each, and 0 for a scale of 0."""
    steps = scales.astype(np.float64)[..., None]
    codes = np.zeros_like(groups)
    np.divide(groups, steps, out=codes, where=steps != 0)
    clipped: np.ndarray = np.clip(np.rint(codes), -8, 7).astype(np.int64)
    return clipped


@pytest.mark.parametrize("head_dim", HEAD_SIZES)
@pytest.mark.parametrize("group_size", [32, 64])
def test_packing_is_bit_exact(head_dim: int, group_size: int) -> None:
    rng = np.random.default_rng(head_dim)
    # Multiples of 1/8 up to 32: scales and squared errors are exact in float32, and so are ties: every bit is decided.
    rows = rng.integers(-32 * 8, 32 * 8 + 1, (43, head_dim)) / 8.0
    rows[:, ::group_size] = 32.0
    rows[::2, ::group_size] = -32.0
    rows[3] = 0.0
    words, scales, codes = numpy_pack(rows, group_size)
    layout = Layout(head_dim, group_size)
    got_words, got_scales = reference.pack(layout, mx.array(rows, mx.float32))
    assert np.array_equal(np.array(reference.in_order(layout, got_scales)), scales)
    assert np.array_equal(np.array(reference.in_order(layout, got_words)), words)
    assert (codes.min(), codes.max()) == (-8, 7)
    assert (scales < 0).any()
    assert (scales > 0).any()


def test_ties_round_to_even() -> None:
    codes, scales = reference.round_groups(mx.array([[-8.0, 0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 6.5]]), (1.0,))
    assert codes.tolist() == [[-8, 0, 2, 2, 4, 0, -2, -2, 6]]
    assert scales.tolist() == [1]


def test_the_largest_magnitude_is_exact_and_its_opposite_is_clipped() -> None:
    """By the first scale that is tried."""
    codes, scales = reference.round_groups(mx.array([[8.0, -8.0, 7.75], [8.0, -7.0, 7.25]]), (1.0,))
    assert (codes * scales[:, None]).tolist() == [[7, -8, 7], [8, -7, 7]]


@pytest.mark.parametrize("group_size", [32, 64])
def test_the_best_of_the_tried_scales_is_taken(group_size: int) -> None:
    groups = mx.random.normal((4000, group_size), key=mx.random.key(3))

    def errors(choices: tuple[float, ...]) -> np.ndarray:
        codes, scales = (np.array(a, np.float64) for a in reference.round_groups(groups, choices))
        squared: np.ndarray = ((codes * scales[:, None] - np.array(groups, np.float64)) ** 2).sum(axis=1)
        return squared

    alone = np.stack([errors((choice,)) for choice in SCALE_CHOICES])
    np.testing.assert_allclose(errors(SCALE_CHOICES), alone.min(axis=0), rtol=1e-5)
    assert set(alone.argmin(axis=0)) == set(range(len(SCALE_CHOICES)))
    assert alone.min(axis=0).mean() < 0.93 * alone[0].mean()


def test_a_scale_that_float16_cannot_hold_is_not_taken_and_the_first_one_decides_whether_a_group_can_be_coded() -> None:
    groups = mx.full((3, 32), 60.0 * 8)
    groups[1], groups[2] = 62_000.0 * 8, 66_000.0 * 8  # 70/64 of the one is too much, 58/64 of the other is not
    codes, scales = reference.round_groups(groups)
    assert mx.isfinite(scales).tolist() == [True, True, False]
    assert mx.allclose(codes[:2] * scales[:2, None], groups[:2], rtol=1e-3).item()
    assert mx.isnan(scales[2]).item()


def test_of_small_scales_the_first_is_taken() -> None:
    """Float16 holds them with ever fewer bits: then the others are no longer what they are meant to be."""
    groups = mx.random.normal((400, 32), key=mx.random.key(2))
    wholes = groups.max(axis=-1), -groups.min(axis=-1)
    for size, firsts in ((0.9 * SMALLEST_TRIED, 400), (2 * SMALLEST_TRIED, 0)):
        scaled = groups * (8 * size / mx.maximum(*wholes))[:, None]
        _, scales = reference.round_groups(scaled)
        taken = np.abs(np.array(scales, np.float64)) / size
        assert (np.abs(taken - 1) < 0.01).sum() >= firsts
        assert (len(set(np.round(taken, 1))) > 1) == (firsts == 0)


@pytest.mark.parametrize("head_dim", HEAD_SIZES)
@pytest.mark.parametrize("group_size", [32, 64])
def test_round_trip_is_within_half_a_step(head_dim: int, group_size: int) -> None:
    layout = Layout(head_dim, group_size)
    rows = mx.random.normal((2, 3, 127, head_dim), key=mx.random.key(1)) * 3
    words, scales = reference.pack(layout, rows)
    assert words.shape == (2, 3, 127, layout.words)
    assert scales.shape == (2, 3, 127, layout.groups)
    got = np.array(reference.unpack(layout, words, scales), np.float64)
    ordered = np.array(reference.in_order(layout, scales), np.float64)
    signed_steps = np.repeat(ordered, group_size, axis=-1)[..., :head_dim]
    steps = np.abs(signed_steps)
    error = np.abs(got - np.array(rows, np.float64))
    # In steps, whose sign is the scale's; what lies beyond the last code's half step is clipped to that code.
    exact = np.array(rows, np.float64) / signed_steps
    clipped = np.maximum(exact - 7, 0) + np.maximum(-8 - exact, 0)
    assert (error <= steps * (np.maximum(0.5, clipped) + 1e-5)).all()
    # The smallest scale that is tried is 58/64 of the one by which the largest magnitude is 8 steps.
    assert clipped.max() <= 8 * 64 / 58 * (1 + 2**-10) - 7


def test_words_are_mlx_own_order() -> None:
    """MLX's affine quantization of the same values with step 1 and offset -8 packs to the same words."""
    codes = np.random.default_rng(0).integers(-8, 8, (5, 64))
    codes[:, 0], codes[:, 32] = -8, -8
    layout = Layout(64, 32)
    words, scales = reference.pack(layout, mx.array(codes, mx.float32))
    assert np.array_equal(np.array(scales), np.ones((5, 2), np.float16))
    expanded = mx.dequantize(words, mx.ones((5, 2)), mx.full((5, 2), -8.0), group_size=32, bits=4)
    assert np.array_equal(np.array(expanded), codes)


@pytest.mark.parametrize(
    ("head_dim", "group_size", "words", "scales"),
    [
        (64, 32, [0, 1, 2, 3, 4, 5, 6, 7], [0, 1]),
        (128, 32, [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15], [0, 2, 1, 3]),
        (128, 64, [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15], [0, 1]),
        (256, 32, [w + 8 * unit for w in range(8) for unit in range(4)], [0, 2, 4, 6, 1, 3, 5, 7]),
        (256, 64, [w + 8 * unit for w in range(8) for unit in range(4)], [0, 1, 2, 3]),
        (192, 32, list(range(24)), list(range(6))),
    ],
)
def test_units_of_64_values_stand_interleaved(
    head_dim: int, group_size: int, words: list[int], scales: list[int]
) -> None:
    """Value d of a row is stored in word `words.index(d // 8)`, its scale at `scales.index(d // group_size)`."""
    layout = Layout(head_dim, group_size)
    assert reference.interleave(layout, mx.arange(layout.words)).tolist() == words
    assert reference.interleave(layout, mx.arange(layout.groups)).tolist() == scales
    for count in (layout.words, layout.groups):
        row = mx.arange(3 * count).reshape(3, count)
        assert mx.array_equal(reference.in_order(layout, reference.interleave(layout, row)), row)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_what_cannot_be_coded_is_nan_and_stays_in_its_group(bad: float) -> None:
    layout = Layout(128, 32)
    rows = np.ones((4, 128), np.float32)
    rows[1, 40] = bad
    got = np.array(reference.unpack(layout, *reference.pack(layout, mx.array(rows))))
    assert np.isnan(got[1, 32:64]).all()
    got[1, 32:64] = 1.0
    # 7 * fp16(1/7) is 1 up to the scale's rounding.
    assert np.allclose(got, 1.0, atol=1e-3)


def test_values_too_small_for_a_scale_become_zero() -> None:
    layout = Layout(32, 32)
    got = reference.unpack(layout, *reference.pack(layout, mx.full((1, 32), 1e-9)))
    assert mx.array_equal(got, mx.zeros((1, 32)))
