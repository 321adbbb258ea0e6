"""Rotations and lambda that are learned for one layer: Adam on the squared error of its coded rows.

Keys and values have each their own rotation, which all heads of the layer share, and each head has its own lambda.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import mlx.core as mx
from mlx.optimizers import Adam, cosine_decay

from app.engine.ablations.coding import Coding

_BATCH_TOKENS = 64
_CHECKS = 10


class Learned(StrEnum):
    """What is learned after a base rotation. Lambda always is."""

    LAMBDA = "lambda"
    CAYLEY = "cayley"
    HOUSEHOLDER = "householder"


_LAMBDA_RATE = 2e-2
_ROTATION_RATES = {Learned.CAYLEY: 2e-3, Learned.HOUSEHOLDER: 4e-3}


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """The best coding that training met, for keys and values each, with the errors before and after it.

    Shapes: `before` and `after` `[2]`, mean squared errors over all training rows.
    """

    coding: Coding
    before: mx.array
    after: mx.array


def learn(rows: mx.array, base: mx.array, group_size: int, what: Learned, steps: int, seed: int = 0) -> Training:
    """Learn lambda and, if `what` says so, a rotation after `base`.

    It starts from `base` and lambda = 1. These, and what has been learned after every tenth of the steps, are measured
    on all rows and the best is kept, so that the result is never worse on them than the start.

    Shapes: `rows` `[2, B, Hk, L, D]`, `base` `[2, D, D]` orthonormal.
    """
    heads, dim = rows.shape[2], rows.shape[4]
    rows = rows.astype(mx.float32).swapaxes(1, 2).reshape(2, 1, heads, -1, dim)
    parameters = {"log_lambda": mx.zeros((2, heads, dim))}
    optimizers = {"log_lambda": Adam(cosine_decay(_LAMBDA_RATE, steps))}
    if what is not Learned.LAMBDA:
        parameters["rotation"] = _start(what, dim, seed)
        optimizers["rotation"] = Adam(cosine_decay(_ROTATION_RATES[what], steps))

    def coding(parameters: dict[str, mx.array]) -> Coding:
        rotation = base @ learned_rotation(what, parameters["rotation"]) if "rotation" in parameters else base
        return Coding(rotation, group_size, lam=mx.exp(parameters["log_lambda"]))

    before = coding(parameters).squared_errors(rows)
    weights = 1 / mx.maximum(before, 1e-30)
    gradient = mx.grad(lambda p, batch: (coding(p).squared_errors(batch) * weights).sum())
    best, least = parameters, before
    key = mx.random.key(seed)
    for step in range(1, steps + 1):
        key, now = mx.random.split(key)
        batch = rows[..., mx.random.randint(0, rows.shape[3], (_BATCH_TOKENS,), key=now), :]
        slopes = gradient(parameters, batch)
        parameters = {
            name: optimizers[name].apply_gradients({name: slopes[name]}, {name: value})[name]
            for name, value in parameters.items()
        }
        mx.eval(parameters)
        if step % max(1, steps // _CHECKS) == 0 or step == steps:
            errors = coding(parameters).squared_errors(rows)
            better = errors < least
            best = {name: mx.where(better[:, None, None], value, best[name]) for name, value in parameters.items()}
            least = mx.minimum(errors, least)
            mx.eval(best, least)
    result = coding(best)
    after = result.squared_errors(rows)
    mx.eval(result.rotation, result.lam, before, after)
    return Training(result, before, after)


def learned_rotation(what: Learned, parameters: mx.array) -> mx.array:
    """Return the rotation that `parameters` stand for.

    CAYLEY: `(I - A) (I + A)^-1` with the skew-symmetric A = P - P^T. HOUSEHOLDER: the product of the reflections
    I - 2 u u^T along the parameters' rows U, as I - U^T T U with T^-1 = I / 2 + the upper triangle of U U^T.

    Shapes: `[2, D, D]` or `[2, D / 2, D]` to `[2, D, D]`.
    """
    identity = mx.eye(parameters.shape[-1])
    if what is Learned.CAYLEY:
        skew = parameters - parameters.swapaxes(-1, -2)
        rotation: mx.array = (identity - skew) @ _inverse(identity + skew)
        return rotation
    units = parameters * mx.rsqrt((parameters**2).sum(axis=-1, keepdims=True))
    overlaps = units @ units.swapaxes(-1, -2)
    middle: mx.array = _inverse(mx.triu(overlaps, 1) + mx.eye(units.shape[1]) / 2)
    return identity - units.swapaxes(-1, -2) @ middle @ units


def _start(what: Learned, dim: int, seed: int) -> mx.array:
    """Return parameters of the identity: two equal reflections, one after the other, cancel."""
    if what is Learned.CAYLEY:
        return mx.zeros((2, dim, dim))
    pairs = mx.random.normal((2, dim // 4, 1, dim), key=mx.random.key(seed)) / dim**0.5
    return mx.repeat(pairs, 2, axis=2).reshape(2, -1, dim)


def _inverted(matrix: mx.array) -> mx.array:
    return mx.linalg.inv(matrix, stream=mx.cpu)


def _gradient_of_inverse(_matrix: mx.array, cotangent: mx.array, inverse: mx.array) -> mx.array:
    transposed = inverse.swapaxes(-1, -2)
    return -(transposed @ cotangent @ transposed)


# MLX has no gradient of its own for this; its stubs do not type what makes one.
_inverse: Any = mx.custom_function(_inverted)
_inverse.vjp(_gradient_of_inverse)
