"""How the ablations code rows: the paper's quantizer behind any rotation, rounded rows out, and never packed.

The quantizer is the paper's own, so that what is compared is the rotation and the scales: scale = max|x'| / 7 in
float32, codes -7 to 7. What Nibble deploys is `kernels.codec`, measured by `python -m app --quality`.
"""

from dataclasses import dataclass

import mlx.core as mx

BITS = 4
MAX_CODE = 7
SCALE_BITS = 32
LAMBDA_FLOOR = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Coding:
    """One layer's coding: a row x becomes `round(lam * ((x - mu) @ rotation))` and is taken back.

    Keys stand at index 0 of the first axis, values at 1. Heads of a layer share the rotation, not lambda and mu.

    Shapes: `rotation` `[2, D, D]` orthonormal, `lam` and `mu` `[2, Hk, D]`; None is 1 and 0.
    """

    rotation: mx.array
    group_size: int
    lam: mx.array | None = None
    mu: mx.array | None = None

    def coded(self, rows: mx.array) -> mx.array:
        """Return rows as they come back from their codes. Shapes: `[2, B, Hk, L, D]`, float32 out."""
        rows = rows.astype(mx.float32)
        if self.mu is not None:
            rows = rows - self.mu[:, None, :, None]
        rotated = turned(rows, self.rotation)
        if self.lam is not None:
            lam = self.lam[:, None, :, None]
            rotated = rounded(rotated * lam, self.group_size) / lam
        else:
            rotated = rounded(rotated, self.group_size)
        back = turned(rotated, self.rotation.swapaxes(-1, -2))
        return back if self.mu is None else back + self.mu[:, None, :, None]

    def __call__(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Return keys and values as a model gets them from the codes. Shapes: `[B, Hk, L, D]`, types kept."""
        coded = self.coded(mx.stack([keys, values]))
        return coded[0].astype(keys.dtype), coded[1].astype(values.dtype)

    def bits_per_value(self, head_dim: int) -> float:
        """Return the bits that a value takes, with the paper's float32 scales: 5.0 for groups of 32."""
        return BITS + SCALE_BITS * -(-head_dim // self.group_size) / head_dim

    def squared_errors(self, rows: mx.array) -> mx.array:
        """Return the mean squared error of coded keys and of coded values. Shapes: `[2, B, Hk, L, D]` to `[2]`."""
        return mx.mean((self.coded(rows) - rows.astype(mx.float32)) ** 2, axis=(1, 2, 3, 4))


def turned(rows: mx.array, rotation: mx.array) -> mx.array:
    """Return `rows @ rotation`, keys and values by their own. Shapes: `[2, B, Hk, L, D]` and `[2, D, D]`."""
    return (rows.reshape(2, -1, rows.shape[-1]) @ rotation).reshape(rows.shape)


def rounded(rows: mx.array, group_size: int) -> mx.array:
    """Round rows to 4-bit codes and back, with one scale for `group_size` values.

    Only the rounding is passed over by gradients (straight-through); the scale, which is the group's largest magnitude
    over 7, has its own. Without that the error of a rotated row would have no gradient at all.

    Shapes: `[..., D]`; a head size that is no multiple of the group size ends in a shorter group.
    """
    dim = rows.shape[-1]
    padding = -dim % group_size
    if padding:
        rows = mx.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, padding)])
    groups = rows.reshape(*rows.shape[:-1], -1, group_size)
    scales = mx.abs(groups).max(axis=-1, keepdims=True) / MAX_CODE
    steps = mx.where(scales > 0, scales, 1.0)
    exact = groups / steps
    codes = exact + mx.stop_gradient(mx.round(exact) - exact)
    return (codes * steps).reshape(rows.shape)[..., :dim]


def deployed_lambda(rotation: mx.array, rows: mx.array) -> mx.array:
    """Return the lambda that the paper deploys: 1 / max|rotated value| of each channel over the training rows.

    Shapes: `[2, D, D]` and `[2, B, Hk, L, D]` to `[2, Hk, D]`.
    """
    largest = mx.abs(turned(rows.astype(mx.float32), rotation)).max(axis=(1, 3))
    return 1 / mx.maximum(largest, LAMBDA_FLOOR)
