"""The arms of the ablations, each a coding for every layer, and the rows that they are fitted to.

What an arm learns or calibrates comes from the rows of a training text, recorded as the cache gets them, after RoPE.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import mlx.core as mx

from app.engine.ablations.coding import Coding, deployed_lambda
from app.engine.ablations.learning import Learned, learn
from app.engine.coded_cache import coded_caches
from app.engine.model_folder import OpenModel
from kernels.rotation import Rotation, RotationKind

GROUP_SIZE = 32
BASELINE = "SRFT, g 32"
"""The arm that reductions of the error are against."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One line of the table. `coding` makes a layer's coding from the layer's number and its training rows."""

    table: str
    name: str
    coding: Callable[[int, mx.array], Coding]


@dataclass(slots=True, eq=False)
class Recorder:
    """A coding that changes nothing and keeps what passes. Shapes: `rows` `[2, B, Hk, L, D]`."""

    _parts: list[mx.array] = field(default_factory=list)

    def __call__(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Keep the rows and return them."""
        self._parts.append(mx.stack([keys, values]))
        return keys, values

    @property
    def rows(self) -> mx.array:
        """All rows so far."""
        return mx.concatenate(self._parts, axis=3)


def record(opened: OpenModel, windows: list[list[int]]) -> dict[int, mx.array]:
    """Return the rows of each layer that can be int4, of windows that all begin with an empty cache.

    Shapes: `[2, B, Hk, L, D]`, B windows of L tokens.
    """
    recorders = [None if reason else Recorder() for reason in opened.plan.reasons]
    opened.model(mx.array(windows), cache=coded_caches(opened.model, recorders))
    rows = {layer: recorder.rows for layer, recorder in enumerate(recorders) if recorder is not None}
    mx.eval(rows)
    return rows


def arms(head_dim: int, steps: int) -> list[Arm]:
    """Return all arms that exist for a head size, in the order of the paper's tables; learning takes `steps`."""
    scales, rotations = "Scales", "Rotations, g 32"
    learned = "Learned on the training text, g 32"
    srft, none = RotationKind.SRFT, RotationKind.IDENTITY
    all_arms = [
        Arm(scales, "no rotation, per token", _plain(none, head_dim)),
        Arm(scales, "SRFT, per token", _plain(srft, head_dim)),
        Arm(scales, "SRFT, lambda, per token", _with_lambda(head_dim)),
        Arm(scales, BASELINE, _plain(srft, GROUP_SIZE)),
        Arm(scales, "SRFT, lambda, g 32", _with_lambda(GROUP_SIZE)),
        Arm(scales, "SRFT, keys centred, g 32 (not the paper's)", _centred),
        Arm(rotations, "none", _plain(none, GROUP_SIZE)),
    ]
    try:
        Rotation(RotationKind.SRHT, head_dim, 0)
        all_arms.append(Arm(rotations, "SRHT", _plain(RotationKind.SRHT, GROUP_SIZE)))
    except ValueError:
        pass  # no Hadamard matrix of this size
    return [
        *all_arms,
        Arm(rotations, "Householder, k = D/2, random", _plain(RotationKind.HOUSEHOLDER, GROUP_SIZE)),
        Arm(learned, "SRFT, then lambda", _learned(srft, Learned.LAMBDA, steps)),
        Arm(learned, "SRFT, then Cayley R and lambda", _learned(srft, Learned.CAYLEY, steps)),
        Arm(learned, "SRFT, then Householder k = D/2 and lambda", _learned(srft, Learned.HOUSEHOLDER, steps)),
        Arm(learned, "Cayley R and lambda without SRFT", _learned(none, Learned.CAYLEY, steps)),
    ]


def base_rotation(kind: RotationKind, dim: int, layer: int) -> mx.array:
    """Return the same rotation for keys and values. Shapes: `[2, D, D]`."""
    rotation = Rotation(kind, dim, layer)
    return mx.stack([rotation.signs[:, None] * rotation.base] * 2)


def _plain(kind: RotationKind, group_size: int) -> Callable[[int, mx.array], Coding]:
    return lambda layer, rows: Coding(base_rotation(kind, rows.shape[-1], layer), group_size)


def _with_lambda(group_size: int) -> Callable[[int, mx.array], Coding]:
    def coding(layer: int, rows: mx.array) -> Coding:
        rotation = base_rotation(RotationKind.SRFT, rows.shape[-1], layer)
        return Coding(rotation, group_size, lam=deployed_lambda(rotation, rows))

    return coding


def _centred(layer: int, rows: mx.array) -> Coding:
    mean = rows.astype(mx.float32).mean(axis=(1, 3))
    mu = mx.stack([mean[0], mx.zeros_like(mean[1])])
    return Coding(base_rotation(RotationKind.SRFT, rows.shape[-1], layer), GROUP_SIZE, mu=mu)


def _learned(kind: RotationKind, what: Learned, steps: int) -> Callable[[int, mx.array], Coding]:
    def coding(layer: int, rows: mx.array) -> Coding:
        return learn(rows, base_rotation(kind, rows.shape[-1], layer), GROUP_SIZE, what, steps).coding

    return coding
