"""Rotations against their definitions in NumPy float64."""

import mlx.core as mx
import numpy as np
import pytest

from kernels.rotation import Rotation, RotationKind

EVEN = [2, 6, 16, 64, 80, 96, 112, 128, 192, 256]
ANY_EVEN = [(k, d) for k in (RotationKind.SRFT, RotationKind.HOUSEHOLDER, RotationKind.IDENTITY) for d in EVEN]
ALL = [*ANY_EVEN, *((RotationKind.SRHT, d) for d in (2, 16, 64, 80, 96, 112, 128, 256))]


def rows(dim: int) -> np.ndarray:
    return np.random.default_rng(dim).standard_normal((43, dim))


@pytest.mark.parametrize(("kind", "dim"), ALL)
def test_orthonormal(kind: RotationKind, dim: int) -> None:
    base = np.array(Rotation(kind, dim, 5).base, np.float64)
    assert np.abs(base @ base.T - np.eye(dim)).max() < 2e-6


@pytest.mark.parametrize(("kind", "dim"), ALL)
def test_inverse_and_inner_products(kind: RotationKind, dim: int) -> None:
    rotation = Rotation(kind, dim, 11)
    x = rows(dim)
    y = rotation.apply(mx.array(x, mx.float32))
    assert np.abs(np.array(rotation.invert(y), np.float64) - x).max() < 1e-5
    y64 = np.array(y, np.float64)
    assert np.abs(y64 @ y64.T - x @ x.T).max() < 2e-5 * dim


@pytest.mark.parametrize(("kind", "dim"), ALL)
def test_fast_form_is_the_same_rotation(kind: RotationKind, dim: int) -> None:
    rotation = Rotation(kind, dim, 3)
    x = mx.array(rows(dim), mx.float32)
    assert np.abs(np.array(rotation.apply_fast(x)) - np.array(rotation.apply(x))).max() < 1e-5


@pytest.mark.parametrize("dim", EVEN)
def test_srft_is_the_packed_unitary_dft_of_the_signed_row(dim: int) -> None:
    rotation = Rotation(RotationKind.SRFT, dim, 9)
    x = rows(dim)
    spectrum = np.fft.rfft(x * np.array(rotation.signs, np.float64), axis=-1) / np.sqrt(dim)
    half = dim // 2
    expected = np.empty_like(x)
    expected[:, 0] = spectrum[:, 0].real
    expected[:, half] = spectrum[:, half].real
    expected[:, 1:half] = np.sqrt(2) * spectrum[:, 1:half].real
    expected[:, half + 1 :] = np.sqrt(2) * spectrum[:, 1:half].imag
    got = np.array(rotation.apply(mx.array(x, mx.float32)), np.float64)
    assert np.linalg.norm(got - expected) / np.linalg.norm(expected) < 1e-6


def test_srht_is_sylvesters_matrix() -> None:
    matrix = np.array([[1.0]])
    while len(matrix) < 64:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    base = np.array(Rotation(RotationKind.SRHT, 64, 0).base)
    assert np.abs(base - matrix / 8).max() < 1e-6


def test_householder_is_a_product_of_half_as_many_reflections() -> None:
    """The determinant of a product of k reflections is (-1)^k, and 1 keeps its sign apart from the identity."""
    for dim in (6, 16):
        base = np.array(Rotation(RotationKind.HOUSEHOLDER, dim, 1).base, np.float64)
        assert np.linalg.det(base) == pytest.approx((-1.0) ** (dim // 2), abs=1e-4)
        assert np.abs(base - np.eye(dim)).max() > 0.1


def test_signs_belong_to_the_layer_and_never_change() -> None:
    signs = [np.array(Rotation(RotationKind.SRFT, 128, layer).signs) for layer in range(32)]
    assert all(set(np.unique(s)) == {-1.0, 1.0} for s in signs)
    assert len({s.tobytes() for s in signs}) == 32
    assert abs(np.mean(signs)) < 0.05
    # A saved cache is read by the signs its seed gives: these bits may never change.
    bits = "".join("1" if s > 0 else "0" for s in signs[3][:32])
    assert bits == "01100111011111001011101101100010"


def test_a_spike_is_spread_evenly() -> None:
    spike = mx.zeros((1, 128))
    spike[0, 17] = 100.0
    spread = np.abs(np.array(Rotation(RotationKind.SRFT, 128, 0).apply(spike)))
    assert spread.max() <= 100 * np.sqrt(2 / 128) * 1.0001


@pytest.mark.parametrize(("kind", "dim"), [(k, d) for k in RotationKind for d in (0, 7)] + [(RotationKind.SRHT, 72)])
def test_a_size_that_cannot_be_rotated_is_refused(kind: RotationKind, dim: int) -> None:
    with pytest.raises(ValueError, match=r"\[rotation\]"):
        Rotation(kind, dim, 0)
