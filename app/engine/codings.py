"""The ways of coding that `quality` compares: plain int4, mlx-lm's affine int4, and ours whole and in parts.

Ours in the format goes through `kernels.reference`, so that a change of the format shows here at once. What the format
does not offer, one scale for a whole row and codes without -8, is rounded here in plain MLX.

`B` batch, `Hk` key/value heads, `L` tokens, `D` head size, `G` group size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import mlx.core as mx

from app.chat.options import GROUP_SIZES
from app.engine.calibration import LayerConstants
from app.engine.coded_cache import Coding
from kernels import reference
from kernels.codec import Codec
from kernels.layout import BITS, MAX_CODE, MIN_CODE, SCALE_CHOICES, SCALE_DTYPE, Layout
from kernels.rotation import Rotation, RotationKind

SCALE_BITS = 8 * SCALE_DTYPE.size


class NotCodableError(Exception):
    """A coding does not exist for this head size; the message says why."""


class PricedCoding(Coding, Protocol):
    """A coding that knows what it costs."""

    def bits_per_value(self, head_dim: int) -> float:
        """Return the bits that a value takes, scales included."""
        ...


@dataclass(frozen=True, slots=True)
class PlainCoding:
    """Int4 as everybody writes it first: one scale for a head's row, codes -7 to 7, nothing else."""

    def __call__(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Code and decode. Shapes: `[B, Hk, L, D]` each."""
        rows = [rounded(x.astype(mx.float32), x.shape[-1], lowest=-MAX_CODE).astype(x.dtype) for x in (keys, values)]
        return rows[0], rows[1]

    def bits_per_value(self, head_dim: int) -> float:
        """Return the bits that a value takes: 4.125 for a head of 128."""
        return BITS + SCALE_BITS / head_dim


@dataclass(frozen=True, slots=True)
class AffineCoding:
    """mlx-lm's own quantized cache (`--kv-bits 4`): scale and bias for a group, no rotation."""

    group_size: int

    def __call__(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Code and decode. Shapes: `[B, Hk, L, D]` each. Raises NotCodableError."""
        if keys.shape[-1] % self.group_size:
            raise NotCodableError(f"a head of {keys.shape[-1]} values has no whole groups of {self.group_size}")
        return self._decoded(keys), self._decoded(values)

    def bits_per_value(self, head_dim: int) -> float:
        """Return the bits that a value takes: 5.0 for groups of 32, 4.5 for groups of 64."""
        return BITS + 2 * SCALE_BITS / self.group_size

    def _decoded(self, rows: mx.array) -> mx.array:
        codes, scales, biases = mx.quantize(rows, group_size=self.group_size, bits=BITS)
        return mx.dequantize(codes, scales, biases, group_size=self.group_size, bits=BITS)


@dataclass(frozen=True, eq=False)
class OurCoding:
    """Nibble's int4 of one layer: centre, smooth keys, rotate, round in groups. Any part can be left out.

    `lam`, the paper's lambda, can be put in.

    `group_size` 0 is one scale for a whole row. `lowest` is the lowest code: -8 with a scale that has a sign, as in the
    format, or -7 with a positive one. `choices` are the scales that are tried, with -8.
    """

    layer: int
    group_size: int = 32
    kind: RotationKind = RotationKind.SRFT
    mu: mx.array | None = None
    smooth: mx.array | None = None
    lam: mx.array | None = None
    lowest: int = MIN_CODE
    choices: tuple[float, ...] = SCALE_CHOICES

    def __call__(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Code and decode. Shapes: `[B, Hk, L, D]` each."""
        rows, codec = mx.stack([keys, values]), self._codec(keys.shape[-1])
        if self.group_size and (self.lowest, self.choices) == (MIN_CODE, SCALE_CHOICES):
            return reference.dequantize(codec, *reference.quantize(codec, rows), keys.dtype)
        x = rows.astype(mx.float32)
        if codec.mu is not None:
            x = x - codec.mu[:, None, :, None, :]
        smooth = None if codec.smooth is None else mx.stack([codec.smooth, mx.ones_like(codec.smooth)])
        if smooth is not None:
            x = x / smooth[:, None, :, None, :]
        x = codec.rotation.apply(x)
        if codec.lam is not None:
            x = x * codec.lam[:, None, :, None, :]
        x = rounded(x, self.group_size or x.shape[-1], self.lowest, self.choices)
        if codec.lam is not None:
            x = x / codec.lam[:, None, :, None, :]
        x = codec.rotation.invert(x)
        if smooth is not None:
            x = x * smooth[:, None, :, None, :]
        if codec.mu is not None:
            x = x + codec.mu[:, None, :, None, :]
        x = x.astype(keys.dtype)
        return x[0], x[1]

    def bits_per_value(self, head_dim: int) -> float:
        """Return the bits that a value takes: 4.5 for groups of 32, 4.25 for groups of 64."""
        if not self.group_size:
            return BITS + SCALE_BITS / head_dim
        return Layout(head_dim, self.group_size).bits_per_value

    def _codec(self, head_dim: int) -> Codec:
        return self._codecs.setdefault(
            head_dim,
            Codec(Rotation(self.kind, head_dim, self.layer), self.group_size or 32, self.mu, self.lam, self.smooth),
        )

    @cached_property
    def _codecs(self) -> dict[int, Codec]:
        return {}


def rounded(rows: mx.array, group_size: int, lowest: int, choices: tuple[float, ...] = SCALE_CHOICES) -> mx.array:
    """Round rows to four bits with one float16 scale for a group, and return what the codes stand for.

    Codes run from `lowest`, -8 or -7, to 7. With -8 scales are those of the format, the best of `choices`; with -7 they
    are positive, and the largest magnitude's code is 7. The last group may be shorter, as in the format.

    Shapes: `[..., D]` float32 in and out.
    """
    dim = rows.shape[-1]
    padding = -dim % group_size
    padded = mx.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, padding)]) if padding else rows
    groups = padded.reshape(*rows.shape[:-1], -1, group_size)
    if lowest == MIN_CODE:
        codes, scales = reference.round_groups(groups, choices)
        scales = scales[..., None].astype(mx.float32)
    else:
        scales = (mx.abs(groups).max(axis=-1, keepdims=True) / MAX_CODE).astype(SCALE_DTYPE).astype(mx.float32)
        codes = mx.where(scales != 0, mx.clip(mx.round(groups / scales), lowest, MAX_CODE), 0)
    return (codes * scales).reshape(padded.shape)[..., :dim]


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the comparison. `coding_of` returns a layer's coding, or None where the layer stays 16-bit."""

    name: str
    description: str
    coding_of: Callable[[int], PricedCoding | None]
    deployed_group_size: int = 0
    """Group size of the chats that have this cache; 0 where none has."""


def plain_variants() -> list[Variant]:
    """Return what needs no calibration: the 16-bit cache, others' int4, and our rotation alone."""
    return [
        Variant("fp16", "the model's own 16-bit cache once more: KL must be 0", lambda layer: None),
        Variant("plain int4", "one scale a token and head, no rotation", lambda layer: PlainCoding()),
        Variant("mlx affine g64", "mlx-lm's own 4-bit cache", lambda layer: AffineCoding(64)),
        Variant("mlx affine g32", "mlx-lm's own 4-bit cache", lambda layer: AffineCoding(32)),
        Variant(
            "SRFT alone g32",
            "the paper's rotation and codes -7 to 7, no calibration",
            lambda layer: OurCoding(layer, lowest=-MAX_CODE),
        ),
    ]


def our_variants(layers: Sequence[LayerConstants]) -> list[Variant]:
    """Return ours as deployed with the calibration `layers`, and with each ingredient taken away."""
    some = [constants for constants in layers if not constants.reason]
    variants = [
        *(_deployed(group_size, layers) for group_size in GROUP_SIZES),
        _ours("ours, one scale a row", "in place of groups", layers, lambda c: replace(c, group_size=0)),
        _ours(
            "ours g32, no choice of scales",
            "the largest value of a group is always exact",
            layers,
            lambda c: replace(c, choices=SCALE_CHOICES[:1]),
        ),
        _ours(
            "ours g32, no code -8",
            "nor a choice of scales: codes -7 to 7",
            layers,
            lambda c: replace(c, lowest=-MAX_CODE),
        ),
        _ours(
            "ours g32, no rotation",
            "everything else as deployed",
            layers,
            lambda c: replace(c, kind=RotationKind.IDENTITY),
        ),
    ]
    if any(constants.smooth is not None for constants in some):
        variants.append(
            _ours("ours g32, no smoothing", "keys not divided by factors", layers, lambda c: replace(c, smooth=None))
        )
    if any(constants.mu is not None for constants in some):
        for which, name in enumerate(("keys", "values")):
            variants.append(
                _ours(
                    f"ours g32, {name} not centred",
                    f"mu of {name} 0",
                    layers,
                    lambda c, which=which: replace(c, mu=_without(c.mu, which)),  # type: ignore[misc]
                )
            )
    if any(constants.lam is not None for constants in some):
        variants.append(
            Variant(
                "ours g32, with lambda", "and the paper's lambda besides", lambda layer: _with_lambda(layers, layer)
            )
        )
    return variants


def uncalibrated_variant(layers: Sequence[LayerConstants]) -> Variant:
    """Return ours as it serves until a model is calibrated. `layers`: what its weights alone tell."""
    return _ours("ours g32, uncalibrated", "as it serves until calibration is done", layers)


def _deployed(group_size: int, layers: Sequence[LayerConstants]) -> Variant:
    variant = _ours(f"ours g{group_size}", "as deployed", layers, lambda c: replace(c, group_size=group_size))
    return replace(variant, deployed_group_size=group_size)


def _ours(
    name: str,
    description: str,
    layers: Sequence[LayerConstants],
    change: Callable[[OurCoding], OurCoding] = lambda coding: coding,
) -> Variant:
    def coding_of(layer: int) -> OurCoding | None:
        coding = deployed_coding(layer, layers[layer])
        return None if coding is None else change(coding)

    return Variant(name, description, coding_of)


def deployed_coding(layer: int, constants: LayerConstants, group_size: int = 32) -> OurCoding | None:
    """Return what a layer's int4 cache does to its rows, or None where the layer is to stay fp16."""
    return None if constants.reason else OurCoding(layer, group_size, mu=constants.mu, smooth=constants.smooth)


def _with_lambda(layers: Sequence[LayerConstants], layer: int) -> OurCoding | None:
    coding = deployed_coding(layer, layers[layer])
    return None if coding is None else replace(coding, lam=layers[layer].lam)


def _without(mu: mx.array | None, which: int) -> mx.array | None:
    """Return `mu` with zeros for keys (0) or values (1)."""
    if mu is None:
        return None
    return mx.stack([mx.zeros_like(part) if i == which else part for i, part in enumerate(mu)])
