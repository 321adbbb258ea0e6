"""The constants with which a model's rows are coded: what is subtracted from them, and how their values are weighed.

`mu` is the mean row of a layer's head, of keys after RoPE and of values. Keys less a constant give the same attention,
since softmax does not see what all scores share; the mean of the values is added back behind attention. What is left
is smaller, and so is the error of its codes: a k_proj bias such as Qwen2's, many times as large as all else, is a
constant in the channels that RoPE turns slowly, and rotation would spread it over the whole row.

`lambda` weighs the rotated row's channels before they share a scale, so that they are more nearly equally large.

Both come from one reading of a text (`calibrate`); before that, `start` knows `mu` from the model's weights alone.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from app.engine.sensitivity import TOO_SENSITIVE, beyond_budget, kl_of_layers, sensitive_layers
from app.engine.window_cache import Rows, as_they_are, window_caches
from kernels import dispatch
from kernels.rotation import Rotation, RotationKind

if TYPE_CHECKING:
    from app.engine.cache_plan import CachePlan

_log = logging.getLogger(__name__)

WINDOWS = 8
WINDOW_TOKENS = 128
SENSITIVITY_TOKENS = 64
CPU_WINDOW_TOKENS = 32
CPU_SENSITIVITY_TOKENS = 16
"""A CPU reads a hundred tokens a second, where a GPU reads thousands."""
POSITIONS = 4096
"""The windows stand at positions spread over as many as a usual conversation has: a channel that RoPE turns within that
many has no mean worth subtracting."""
MIN_LAMBDA = 1e-6
_SMALLEST_RMS = 1e-3
"""Of a channel, over the row's largest: one that is always 0 would get an endless lambda."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerConstants:
    """One layer's part. `mu` and `lam` None stand for 0 and 1.

    Shapes: `[2, Hk, D]` float32, keys at 0, values at 1.
    """

    mu: mx.array | None = None
    lam: mx.array | None = None
    reason: str = ""
    """Why the layer is to stay fp16; "" where it is not."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The constants of a model: one entry for each of its prompt cache."""

    layers: tuple[LayerConstants, ...]
    source: str
    """Where they come from, in words."""
    remarks: tuple[str, ...] = ()
    """What a person should know."""

    @property
    def nbytes(self) -> int:
        """Bytes of all constants."""
        return sum(a.nbytes for layer in self.layers for a in (layer.mu, layer.lam) if a is not None)


class CalibrationError(Exception):
    """A text or a model with which calibration comes to nothing; the message says why."""


class CalibrationStoppedError(Exception):
    """Calibration was told to stop."""


def start(model: Any, plan: "CachePlan", positions: int = POSITIONS) -> Calibration:
    """Return what is known without a text: the keys' mean as far as a bias of k_proj makes it.

    The bias is turned by the layer's own RoPE at `positions` positions and averaged: fast channels come to about 0,
    slow ones keep it. Layers that are not built in mlx-lm's usual way have no constants until `calibrate`.
    """
    layers = getattr(model, "layers", ())
    fits = len(layers) == len(plan.reasons)
    return Calibration(
        tuple(
            LayerConstants() if reason or not fits else LayerConstants(mu=_mean_of_bias(layers[i], positions))
            for i, reason in enumerate(plan.reasons)
        ),
        "the model's weights",
    )


def calibrate(
    model: Any,
    tokenizer: Any,
    plan: "CachePlan",
    text: str,
    report: Callable[[float], None],
    cancelled: Callable[[], bool],
    positions: int = POSITIONS,
) -> Calibration:
    """Read windows of `text` and return the constants of every layer that can be int4.

    `report` is told the share that is done, 0 to 1; no token gets a position of `positions` or more. Raises
    CalibrationStoppedError once `cancelled()`, and CalibrationError where the text is too short or a row not finite.
    """
    tokens = tokenizer.encode(text)
    on_cpu = dispatch.backend() == "cpu"
    window_tokens = CPU_WINDOW_TOKENS if on_cpu else WINDOW_TOKENS
    sensitivity_tokens = CPU_SENSITIVITY_TOKENS if on_cpu else SENSITIVITY_TOKENS
    windows, offsets = _windows(tokens, window_tokens, positions)
    judged = [not reason for reason in plan.reasons]
    work = _Work(sum(map(len, windows)) + sensitivity_tokens * (sum(judged) + 1), report, cancelled)

    moments = [Moments(layer) for layer in range(len(plan.reasons))]

    def recording(layer: int) -> Rows:
        def record(keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
            # Models make something special of a text's first token, of which a conversation has one.
            moments[layer].add(keys[:, :, 1:], values[:, :, 1:])
            return as_they_are(keys, values)

        return record

    for window, offset in zip(windows, offsets, strict=True):
        model(mx.array([window]), cache=window_caches(model, plan.reasons, recording, offset))
        mx.eval([m.arrays for m in moments])
        work.done(len(window))
    constants = [m.constants() if m.count else LayerConstants() for m in moments]
    for layer, c in enumerate(constants):
        for array in (c.mu, c.lam):
            if array is not None and not mx.isfinite(array).all().item():
                raise CalibrationError(f"layer {layer} has rows that are not finite")
    return _judged(model, plan, constants, tokens[-sensitivity_tokens:], work)


class Moments:
    """The mean of a layer's rows, and of the squares of their deviations once rotated, over all windows so far.

    Windows are merged by the formula of Chan, Golub and LeVeque (1979): no difference of large sums loses the digits.
    """

    def __init__(self, layer: int) -> None:
        self.layer = layer
        self.count = 0
        self.mean = mx.zeros(())
        self.squares = mx.zeros(())

    @property
    def arrays(self) -> list[mx.array]:
        """What has to be computed before the next window."""
        return [self.mean, self.squares]

    def add(self, keys: mx.array, values: mx.array) -> None:
        """Take a window's rows. Shapes: `[1, Hk, L, D]` each."""
        rows = mx.concatenate([keys, values]).astype(mx.float32)
        rotation = Rotation(RotationKind.SRFT, rows.shape[-1], self.layer)
        n = rows.shape[2]
        mean = rows.mean(axis=2)
        squares = rotation.apply(rows - mean[:, :, None]).square().sum(axis=2)
        if self.count:
            total = self.count + n
            gap = mean - self.mean
            mean = self.mean + gap * (n / total)
            squares = self.squares + squares + rotation.apply(gap).square() * (self.count * n / total)
        self.count += n
        self.mean, self.squares = mean, squares

    def constants(self) -> LayerConstants:
        """Return the layer's constants: mu, and lambda as 1 / sqrt(RMS) with a mean of 1 over each row.

        That is half the way to channels that are all equally large. Rows coded so had a smaller squared error than with
        1 / RMS, where the channels that were small share the error of the large ones, and than with no lambda.
        """
        rms = mx.sqrt(self.squares / self.count)
        rms = mx.maximum(rms, rms.max(axis=-1, keepdims=True) * _SMALLEST_RMS)
        lam = mx.where(rms > 0, mx.rsqrt(rms), 1)
        lam = mx.maximum(lam / lam.mean(axis=-1, keepdims=True), MIN_LAMBDA)
        mx.eval(self.mean, lam)
        return LayerConstants(self.mean, lam)


class _Work:
    """How much of a calibration is done, in tokens."""

    def __init__(self, tokens: int, report: Callable[[float], None], cancelled: Callable[[], bool]) -> None:
        self._tokens = tokens
        self._done = 0
        self._report = report
        self._cancelled = cancelled
        self.done(0)

    def done(self, tokens: int) -> None:
        """Report `tokens` more. Raises CalibrationStoppedError."""
        self._done += tokens
        if self._cancelled():
            raise CalibrationStoppedError
        self._report(min(1.0, self._done / self._tokens))


def _windows(tokens: list[int], window_tokens: int, positions: int) -> tuple[list[list[int]], list[int]]:
    """Return windows spread evenly over `tokens`, and the position at which each is to stand."""
    length = min(window_tokens, positions)
    if len(tokens) < length:
        raise CalibrationError(f"the text has only {len(tokens)} tokens")
    count = min(WINDOWS, len(tokens) // length)
    starts = [i * (len(tokens) - length) // max(1, count - 1) for i in range(count)]
    offsets = [i * (positions - length) // max(1, count - 1) for i in range(count)]
    return [tokens[s : s + length] for s in starts], offsets


def _judged(
    model: Any, plan: "CachePlan", constants: list[LayerConstants], tokens: list[int], work: _Work
) -> Calibration:
    """Return the calibration, with a reason against int4 for layers that suffer too much from it."""
    kl = kl_of_layers(model, plan.reasons, constants, tokens, work.done)
    _log.info("KL of each layer alone in int4, nats: %s", {layer: round(nats, 6) for layer, nats in kl.items()})
    sensitive = sensitive_layers(kl)
    sizes = {layer: c.mu.size for layer, c in enumerate(constants) if c.mu is not None}
    too_many = beyond_budget(sensitive, sizes)
    kept = set(sensitive) - set(too_many)
    remarks: tuple[str, ...] = ()
    if too_many:
        named = ", ".join(map(str, sorted(too_many)))
        remarks = (
            f"Calibration found int4 to cost much in layer {named}. It stays int4 all the same: in fp16 the cache "
            "would need more than 4.75 bits a value.",
        )
    layers = tuple(
        LayerConstants(c.mu, c.lam, TOO_SENSITIVE) if layer in kept else c for layer, c in enumerate(constants)
    )
    return Calibration(layers, "calibration", remarks)


def _mean_of_bias(layer: Any, positions: int) -> mx.array | None:
    attention = getattr(layer, "self_attn", None)
    k_proj, rope = getattr(attention, "k_proj", None), getattr(attention, "rope", None)
    # A norm between projection and RoPE would make something else of the bias.
    if k_proj is None or rope is None or "bias" not in k_proj or hasattr(attention, "k_norm"):
        return None
    heads = getattr(attention, "n_kv_heads", 0)
    if not heads or k_proj.bias.size % heads:
        return None
    bias = k_proj.bias.astype(mx.float32).reshape(1, heads, 1, -1)
    keys = rope(mx.repeat(bias, positions, axis=2), offset=0).mean(axis=2)
    mu = mx.concatenate([keys, mx.zeros_like(keys)])
    mx.eval(mu)
    return mu
