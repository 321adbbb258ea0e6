"""Orthonormal rotations that spread a row's outliers over all its values before it is rounded.

`SRFT` (arXiv:2605.05699): random signs, then the unitary discrete Fourier transform, its half spectrum packed into D
reals. It exists for every even D. `SRHT` is the same with a Hadamard matrix in place of the DFT, `HOUSEHOLDER` a
product of D/2 random reflections, `IDENTITY` leaves the row alone. All take the same arguments.

A rotation is `x -> (x * signs) @ base`: `base` is shared by all layers of one head size, the signs are a layer's own.
"""

import functools
import math
from dataclasses import dataclass
from enum import StrEnum

import mlx.core as mx


class RotationKind(StrEnum):
    """Which rotation."""

    SRFT = "srft"
    SRHT = "srht"
    HOUSEHOLDER = "householder"
    IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation of rows of `dim` values.

    The same `kind`, `dim` and `seed` give the same numbers on every machine; HOUSEHOLDER's up to float rounding.

    Raises ValueError for an odd `dim`, and for SRHT where MLX has no Hadamard matrix of that size.
    """

    kind: RotationKind
    dim: int
    seed: int

    def __post_init__(self) -> None:
        if self.dim < 2 or self.dim % 2:
            raise ValueError(f"[rotation] head size must be even and at least 2, got {self.dim}.")
        if self.kind is RotationKind.SRHT and not _has_hadamard(self.dim):
            raise ValueError(
                f"[rotation] SRHT needs a head size of m * 2^k with m in {_HADAMARD_FACTORS}, got {self.dim}."
            )

    @property
    def signs(self) -> mx.array:
        """The random diagonal. Shapes: `[D]` float32, each +1 or -1."""
        return _signs(self.kind, self.dim, self.seed)

    @property
    def base(self) -> mx.array:
        """The matrix after the signs. Shapes: `[D, D]` float32, orthonormal."""
        return _base(self.kind, self.dim, self.seed if self.kind is RotationKind.HOUSEHOLDER else 0)

    def apply(self, x: mx.array) -> mx.array:
        """Rotate rows. Shapes: `[..., D]` of any float type to `[..., D]` float32."""
        return (x.astype(mx.float32) * self.signs) @ self.base

    def invert(self, y: mx.array) -> mx.array:
        """Undo `apply`. Shapes: `[..., D]` of any float type to `[..., D]` float32."""
        return (y.astype(mx.float32) @ self.base.T) * self.signs

    def apply_fast(self, x: mx.array) -> mx.array:
        """Rotate rows in O(D log D) where the kind has a fast form: equal to `apply` up to float32 rounding."""
        signed = x.astype(mx.float32) * self.signs
        if self.kind is RotationKind.SRFT:
            return _packed_dft(signed)
        if self.kind is RotationKind.SRHT:
            return mx.hadamard_transform(signed)
        if self.kind is RotationKind.HOUSEHOLDER:
            return signed @ self.base
        return signed


_HADAMARD_FACTORS = (1, 12, 20, 28)


def _has_hadamard(dim: int) -> bool:
    return any(dim % m == 0 and (dim // m).bit_count() == 1 for m in _HADAMARD_FACTORS)


@functools.lru_cache(maxsize=1024)
def _signs(kind: RotationKind, dim: int, seed: int) -> mx.array:
    plain = kind in (RotationKind.IDENTITY, RotationKind.HOUSEHOLDER)
    signs = mx.array([1.0 if plain or _splitmix64(seed, i) >> 63 else -1.0 for i in range(dim)])
    mx.eval(signs)  # cached: a lazy array may not cross threads
    return signs


@functools.lru_cache(maxsize=64)
def _base(kind: RotationKind, dim: int, seed: int) -> mx.array:
    match kind:
        case RotationKind.SRFT:
            base = _packed_dft_matrix(dim)
        case RotationKind.SRHT:
            base = mx.hadamard_transform(mx.eye(dim))
        case RotationKind.HOUSEHOLDER:
            base = _reflections(dim, seed)
        case RotationKind.IDENTITY:
            base = mx.eye(dim)
    mx.eval(base)
    return base


def _packed_dft_matrix(dim: int) -> mx.array:
    """Return M with `x @ M` = the packed unitary DFT Y of x.

    Packed: [0] Re Y0, [D/2] Re Y(D/2); for 0 < k < D/2: [k] sqrt2 Re Yk, [D/2 + k] sqrt2 Im Yk.
    The angles are reduced in integers first, so that every entry is right to the last bit of float32.
    """
    half = dim // 2
    root = 1.0 / math.sqrt(dim)
    cos = [math.cos(2.0 * math.pi * n / dim) for n in range(dim)]
    sin = [math.sin(2.0 * math.pi * n / dim) for n in range(dim)]
    rows = []
    for n in range(dim):
        real = [math.sqrt(2.0) * root * cos[n * k % dim] for k in range(half)]
        imag = [-math.sqrt(2.0) * root * sin[n * k % dim] for k in range(half)]
        real[0] = root
        imag[0] = root * (-1.0) ** n
        rows.append(real + imag)
    return mx.array(rows)


def _packed_dft(x: mx.array) -> mx.array:
    dim = x.shape[-1]
    half = dim // 2
    spectrum = mx.fft.rfft(x, axis=-1) * (1.0 / math.sqrt(dim))
    real, imag = mx.real(spectrum), mx.imag(spectrum)
    root2 = math.sqrt(2.0)
    return mx.concatenate(
        [real[..., :1], root2 * real[..., 1:half], real[..., half:], root2 * imag[..., 1:half]], axis=-1
    )


def _reflections(dim: int, seed: int) -> mx.array:
    """Return the product of D/2 reflections I - 2 u u^T with random unit vectors u."""
    normals = mx.random.normal((dim // 2, dim), key=mx.random.key(seed))
    product = mx.eye(dim)
    for i in range(dim // 2):
        u = normals[i] / mx.linalg.norm(normals[i], stream=mx.cpu)
        product = product - 2.0 * (product @ u)[:, None] * u[None, :]
    return product


def _splitmix64(seed: int, index: int) -> int:
    """Return the `index`-th output of the splitmix64 generator (Steele, Lea, Flood 2014), 64 bits."""
    mask = (1 << 64) - 1
    z = (seed * 0xD1B54A32D192ED03 + (index + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)
