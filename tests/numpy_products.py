"""Runs a module with NumPy's products in place of MLX's: `python -m tests.numpy_products MODULE [ARGUMENT...]`.

On a CPU MLX multiplies matrices at some 4 GFLOP/s, NumPy at a hundred and more: tables of quality take minutes instead
of an hour. Linear layers, the logits and attention are replaced; all else, the codings among it, is MLX's. Inputs and
results keep the model's type, sums are float32. Figures differ from MLX's own by rounding only.
"""

import runpy
import sys
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

_weights: dict[int, tuple[mx.array, np.ndarray]] = {}


def main(arguments: list[str]) -> None:
    """Install the products, then run the module as `python -m` does."""
    install()
    module, *sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def install() -> None:
    """Put NumPy's products in place, for the rest of the process."""
    nn.Linear.__call__ = linear
    nn.Embedding.as_linear = logits
    mx.fast.scaled_dot_product_attention = attention


def linear(layer: nn.Linear, x: mx.array) -> mx.array:
    """Return what `nn.Linear` does."""
    y = _numpy(x) @ _weight(layer.weight).T
    if "bias" in layer:
        y += _weight(layer.bias)
    return mx.array(y).astype(x.dtype)


def logits(layer: nn.Embedding, x: mx.array) -> mx.array:
    """Return what `nn.Embedding.as_linear` does."""
    return mx.array(_numpy(x) @ _weight(layer.weight).T).astype(x.dtype)


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: Any = None, sinks: Any = None
) -> mx.array:
    """Return what MLX's fast attention does. Raises ValueError for learned sinks, which no model here has."""
    if sinks is not None:
        raise ValueError("[numpy_products] attention with sinks is not replaced.")
    q, k, v = (_numpy(x) for x in (queries, keys, values))
    B, Hq, L, D = q.shape
    Hk, S = k.shape[1:3]
    scores = (q.reshape(B, Hk, -1, D) * np.float32(scale) @ k.swapaxes(-1, -2)).reshape(B, Hq, L, S)
    if isinstance(mask, str):
        mask = mx.array(np.tril(np.ones((L, S), bool), S - L))
    if mask is not None:
        scores = np.where(np.array(mask), scores, -np.inf) if mask.dtype == mx.bool_ else scores + _numpy(mask)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    out = scores.reshape(B, Hk, -1, S) @ v
    return mx.array(out.reshape(B, Hq, L, -1)).astype(queries.dtype)


def _numpy(x: mx.array) -> np.ndarray:
    return np.array(x.astype(mx.float32))


def _weight(weight: mx.array) -> np.ndarray:
    """Return a weight as NumPy's, which is kept; the array with it, so that its id stays its own."""
    if id(weight) not in _weights:
        _weights[id(weight)] = (weight, _numpy(weight))
    return _weights[id(weight)][1]


if __name__ == "__main__":
    main(sys.argv[1:])
