"""The reference operations against NumPy float64 on the very bytes they read."""

import mlx.core as mx
import numpy as np
import pytest

from kernels import dispatch, reference
from kernels.codec import Codec, make_codec
from kernels.rotation import Rotation, RotationKind


def calibrated(dim: int, heads: int, group_size: int = 32, smoothed: bool = False) -> Codec:
    rng = np.random.default_rng(dim)
    mu = mx.array(rng.normal(0, 2, (2, heads, dim)), mx.float32)
    lam = mx.array(rng.uniform(0.5, 2, (2, heads, dim)), mx.float32)
    smooth = mx.array(rng.uniform(0.25, 8, (heads, dim)), mx.float32) if smoothed else None
    return Codec(Rotation(RotationKind.SRFT, dim, 7), group_size, mu, lam, smooth)


def keys_values(heads: int, tokens: int, dim: int, seed: int = 0) -> tuple[mx.array, mx.array]:
    k, v = mx.random.normal((2, 1, heads, tokens, dim), key=mx.random.key(seed))
    return k, v


def softmax_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, mask: np.ndarray | None) -> np.ndarray:
    repeats = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, repeats, axis=1), np.repeat(v, repeats, axis=1)
    scores = scale * q @ np.swapaxes(k, -1, -2)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def relative(got: mx.array, expected: np.ndarray) -> float:
    return float(np.linalg.norm(np.array(got.astype(mx.float32), np.float64) - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("hq", "hk", "dim", "group_size"),
    [(12, 2, 128, 32), (4, 1, 256, 64), (8, 8, 64, 32), (6, 2, 80, 32), (4, 2, 96, 64), (4, 2, 20, 32)],
)
@pytest.mark.parametrize("tokens", [1, 43, 127, 1025])
def test_attend_equals_float64_on_the_same_bytes(hq: int, hk: int, dim: int, group_size: int, tokens: int) -> None:
    codec = calibrated(dim, hk, group_size)
    k, v = keys_values(hk, tokens, dim)
    codes, scales = dispatch.quantize(codec, k, v)
    rows = [np.array(a, np.float64) for a in reference.dequantize(codec, codes, scales, mx.float32)]
    q = mx.random.normal((1, hq, 1, dim), key=mx.random.key(2))
    got = dispatch.attend(codec, q, codes, scales, dim**-0.5, None)
    expected = softmax_attention(np.array(q, np.float64), rows[0], rows[1], dim**-0.5, None)
    # MLX's quantized_matmul sums code + 8 and takes 8 off at the end: float32's rounding shows at 1e-5, not at 1e-7.
    assert relative(got, expected) < 1e-4


@pytest.mark.parametrize(("hq", "hk", "dim"), [(12, 2, 128), (6, 2, 80), (4, 2, 20)])
def test_smoothed_keys_are_attended_as_float64_does(hq: int, hk: int, dim: int) -> None:
    """Queries take the factor that keys lost, each kv head its own, and values none."""
    codec = calibrated(dim, hk, smoothed=True)
    k, v = keys_values(hk, 43, dim)
    codes, scales = dispatch.quantize(codec, k, v)
    rows = [np.array(a, np.float64) for a in reference.dequantize(codec, codes, scales, mx.float32)]
    q = mx.random.normal((1, hq, 3, dim), key=mx.random.key(2))
    got = dispatch.attend(codec, q, codes, scales, dim**-0.5, "causal")
    causal = np.tril(np.ones((3, 43), bool), 40)
    assert relative(got, softmax_attention(np.array(q, np.float64), rows[0], rows[1], dim**-0.5, causal)) < 1e-4
    unsmoothed = Codec(codec.rotation, codec.group_size, codec.mu, codec.lam)
    plain_codes, plain_scales = dispatch.quantize(unsmoothed, k, v)
    assert not mx.array_equal(codes[0], plain_codes[0])
    assert mx.array_equal(codes[1], plain_codes[1])
    assert mx.array_equal(scales[1], plain_scales[1])


def test_smoothing_takes_outlier_channels_out_of_the_others_error() -> None:
    """Channels a power of two times as large, and smooth with them, are coded as if they were not."""
    k, v = keys_values(2, 43, 64)
    smooth = mx.ones((2, 64))
    smooth[0, 5], smooth[1, 9] = 32.0, 64.0
    rotation = Rotation(RotationKind.SRFT, 64, 7)
    codec = Codec(rotation, 32, smooth=smooth)
    codes, scales = reference.quantize(codec, mx.stack([k * smooth[None, :, None], v]))
    right_codes, right_scales = reference.quantize(Codec(rotation, 32), mx.stack([k, v]))
    assert mx.array_equal(codes, right_codes)
    assert mx.array_equal(scales, right_scales)


def test_the_table_holds_the_constants_in_order_and_the_query_factor_last() -> None:
    codec = calibrated(20, 2, smoothed=True)
    assert codec.mu is not None
    assert codec.lam is not None
    assert codec.smooth is not None
    table = codec.table(0.25)
    most = (1 / codec.lam[0]).max(axis=-1)
    expected = mx.concatenate([codec.mu.flatten(), codec.lam.flatten(), codec.smooth.flatten(), most, mx.array([0.25])])
    assert mx.array_equal(table[3 * 20 :], expected)
    assert codec.nbytes == 4 * (2 * 2 * 2 * 20 + 2 * 20)


def masks(L: int, S: int) -> dict[str, tuple[object, np.ndarray]]:
    causal = np.tril(np.ones((L, S), bool), S - L)
    drawn = np.random.default_rng(3).random((L, S)) > 0.3
    drawn[:, 0] = True
    added = np.where(drawn, 0.0, -1e4) + np.random.default_rng(4).normal(size=(L, S))
    return {
        "causal": ("causal", causal),
        "bool": (mx.array(drawn), drawn),
        "bool with heads": (mx.array(drawn)[None, None], drawn),
        "added": (mx.array(added, mx.float32), added),
        "added bf16": (
            mx.array(added).astype(mx.bfloat16),
            np.array(mx.array(added).astype(mx.bfloat16).astype(mx.float32)),
        ),
    }


@pytest.mark.parametrize("name", list(masks(1, 1)))
@pytest.mark.parametrize("L", [1, 5, 8])
def test_masks(name: str, L: int) -> None:
    codec = calibrated(64, 2)
    k, v = keys_values(2, 37, 64)
    codes, scales = dispatch.quantize(codec, k, v)
    rows = [np.array(a, np.float64) for a in reference.dequantize(codec, codes, scales, mx.float32)]
    q = mx.random.normal((1, 6, L, 64), key=mx.random.key(5))
    mask, as_numpy = masks(L, 37)[name]
    got = dispatch.attend(codec, q, codes, scales, 0.125, mask)  # type: ignore[arg-type]
    assert relative(got, softmax_attention(np.array(q, np.float64), rows[0], rows[1], 0.125, as_numpy)) < 1e-4


def test_batch_and_strided_inputs() -> None:
    codec = calibrated(64, 2)
    both = mx.random.normal((3, 50, 2, 64, 2), key=mx.random.key(6))
    k, v = (both[..., i].transpose(0, 2, 1, 3) for i in range(2))
    codes, scales = dispatch.quantize(codec, k, v)
    whole = np.array(reference.dequantize(codec, codes, scales, mx.float32)[0])
    for b in range(3):
        alone = dispatch.quantize(codec, mx.contiguous(k[b : b + 1]), mx.contiguous(v[b : b + 1]))
        assert mx.array_equal(alone[0], codes[:, b : b + 1])
        assert mx.array_equal(alone[1], scales[:, b : b + 1])
    assert np.abs(whole - np.array(k)).mean() < 0.35


def test_centring_is_exact_for_keys_with_a_huge_constant() -> None:
    """The disease of Qwen2.5's key bias: without mu the codes hold the constant, with it they hold the signal."""
    dim = 128
    bias = np.zeros((2, 1, dim))
    bias[0, 0, 60:64] = 300.0
    k, v = keys_values(1, 64, dim)
    k = k + mx.array(bias[0], mx.float32)[:, None, :]
    rotation = Rotation(RotationKind.SRFT, dim, 1)
    q = mx.random.normal((1, 1, 1, dim), key=mx.random.key(8))
    exact = softmax_attention(*(np.array(a, np.float64) for a in (q, k, v)), dim**-0.5, None)
    errors = []
    for mu in (None, mx.array(bias, mx.float32)):
        codec = Codec(rotation, 32, mu)
        errors.append(relative(dispatch.attend(codec, q, *dispatch.quantize(codec, k, v), dim**-0.5, None), exact))
    assert errors[1] < 0.25
    assert errors[0] > 3 * errors[1]


def test_rotation_helps_a_row_with_an_outlier() -> None:
    k, v = keys_values(2, 200, 128)
    k[..., 5] *= 40
    lost = {}
    for kind in (RotationKind.IDENTITY, RotationKind.SRFT):
        codec = make_codec(128, 64, 0, kind)
        rows = reference.dequantize(codec, *dispatch.quantize(codec, k, v), mx.float32)
        others = [i for i in range(128) if i != 5]
        lost[kind] = float(mx.square(rows[0] - k)[..., mx.array(others)].mean())
    assert lost[RotationKind.SRFT] < 0.5 * lost[RotationKind.IDENTITY]


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_the_result_has_the_queries_type(dtype: mx.Dtype) -> None:
    codec = make_codec(64, 32, 0)
    k, v = keys_values(2, 9, 64)
    codes, scales = dispatch.quantize(codec, k.astype(dtype), v.astype(dtype))
    assert (codes.dtype, scales.dtype) == (mx.uint32, mx.float16)
    q = mx.random.normal((1, 4, 1, 64)).astype(dtype)
    assert dispatch.attend(codec, q, codes, scales, 0.125, None).dtype == dtype
    assert dispatch.dequantize(codec, codes, scales, dtype)[0].dtype == dtype


def test_a_poisoned_token_poisons_the_result_and_nothing_hides_it() -> None:
    codec = make_codec(64, 32, 0)
    k, v = keys_values(1, 9, 64)
    k[0, 0, 4, 3] = float("nan")
    q = mx.random.normal((1, 2, 1, 64))
    assert mx.isnan(dispatch.attend(codec, q, *dispatch.quantize(codec, k, v), 0.125, None)).all()


def test_shapes_that_do_not_fit_are_named() -> None:
    codec = make_codec(64, 32, 0)
    k, v = keys_values(2, 9, 64)
    codes, scales = dispatch.quantize(codec, k, v)
    with pytest.raises(ValueError, match="values of the keys' shape"):
        dispatch.quantize(codec, k, v[..., :32])
    with pytest.raises(ValueError, match=r"\[B, Hk, L, 64\]"):
        dispatch.quantize(codec, k[..., :32], v[..., :32])
    with pytest.raises(ValueError, match="evenly"):
        dispatch.attend(codec, mx.zeros((1, 3, 1, 64)), codes, scales, 1.0, None)
    with pytest.raises(ValueError, match="mask"):
        dispatch.attend(codec, mx.zeros((1, 2, 1, 64)), codes, scales, 1.0, "windowed")
    with pytest.raises(ValueError, match="mu must have shape"):
        Codec(Rotation(RotationKind.SRFT, 64, 0), 32, mx.zeros((2, 64)))
    with pytest.raises(ValueError, match="smooth must have shape"):
        Codec(Rotation(RotationKind.SRFT, 64, 0), 32, smooth=mx.ones((2, 1, 64)))


def test_engagements_are_counted_by_path() -> None:
    codec = make_codec(64, 32, 0)
    before = dispatch.engagements["attend/plain"]
    k, v = keys_values(1, 3, 64)
    dispatch.attend(codec, k[:, :, :1], *dispatch.quantize(codec, k, v), 1.0, None)
    assert dispatch.engagements["attend/plain"] == before + 1
