"""How much a model suffers when one layer alone is coded in int4, and which layers suffer too much."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import mlx.core as mx

from app.engine.window_cache import Rows, as_they_are, window_caches
from kernels import dispatch
from kernels.codec import Codec
from kernels.layout import GROUP_SIZES, Layout
from kernels.rotation import Rotation, RotationKind

OUTLYING = 20.0
"""A layer stands out whose KL is this many times the middle layer's,"""
NOTICEABLE_NATS = 0.1
"""and at least this large: nobody notices less."""
MOST_BITS = 4.75
"""What a value of the cache may take on average, layers in fp16 and all scales included."""
TOO_SENSITIVE = "calibration found it too sensitive for int4"


class _Constants(Protocol):
    @property
    def mu(self) -> mx.array | None: ...
    @property
    def smooth(self) -> mx.array | None: ...


def kl_of_layers(
    model: Any,
    reasons: Sequence[str],
    constants: Sequence[_Constants],
    tokens: list[int],
    done: Callable[[int], None],
) -> dict[int, float]:
    """Return, for each layer that can be int4, the mean KL in nats of the model's next token if it alone is.

    Every token sees the layer's rows as their codes give them back. `done` is told of tokens that were read.
    A KL that is no number counts as infinite.
    """

    def log_probabilities(coded: int) -> mx.array:
        def rows(layer: int) -> Rows:
            return coding(layer, constants[layer]) if layer == coded else as_they_are

        logits = model(mx.array([tokens]), cache=window_caches(model, reasons, rows)).astype(mx.float32)
        result: mx.array = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        mx.eval(result)
        done(len(tokens))
        return result

    right = log_probabilities(-1)
    found: dict[int, float] = {}
    for layer, reason in enumerate(reasons):
        if not reason:
            # A token that the model rules out has no part in KL; -inf less -inf would be no number.
            gap = mx.where(right > -math.inf, right - log_probabilities(layer), 0)
            nats: Any = (mx.exp(right) * gap).sum(axis=-1).mean().item()
            found[layer] = float(nats) if math.isfinite(nats) else math.inf
    return found


def coding(layer: int, constants: _Constants, group_size: int = GROUP_SIZES[0]) -> Rows:
    """Return what codes rows as the layer's int4 cache does, and expands them again."""

    def code(keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        rotation = Rotation(RotationKind.SRFT, keys.shape[-1], layer)
        codec = Codec(rotation, group_size, constants.mu, smooth=constants.smooth)
        return dispatch.dequantize(codec, *dispatch.quantize(codec, keys, values), keys.dtype)

    return code


def sensitive_layers(kl: Mapping[int, float]) -> list[int]:
    """Return the layers that stand out, the worst first. `kl` holds the nats of each layer alone in int4."""
    if not kl:
        return []
    least = max(NOTICEABLE_NATS, OUTLYING * statistics.median(kl.values()))
    return sorted((layer for layer, nats in kl.items() if nats >= least), key=lambda layer: -kl[layer])


def beyond_budget(sensitive: Iterable[int], sizes: Mapping[int, int]) -> list[int]:
    """Return those of the `sensitive` layers, the worst first, that must stay int4 for all to need `MOST_BITS` at most.

    `sizes` holds the values that a token has in each layer that can be int4.
    """
    values = sum(sizes.values())
    bits = values * _int4_bits()
    refused = []
    for layer in sensitive:
        more = sizes[layer] * (16 - _int4_bits())
        if bits + more > values * MOST_BITS:
            refused.append(layer)
        else:
            bits += more
    return refused


def _int4_bits() -> float:
    """Bits of a value with one scale for the smallest group, which is what costs most."""
    group = min(GROUP_SIZES)
    return Layout(group, group).bits_per_value
