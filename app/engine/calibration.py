"""The constants with which a model's rows are coded: what is subtracted from them, and what they are divided by.

`mu` is the mean row of a layer's head, of keys after RoPE and of values. Keys less a constant give the same attention,
since softmax does not see what all scores share; the mean of the values is added back behind attention. What is left
is smaller, and so is the error of its codes: a k_proj bias such as Qwen2's, many times as large as all else, is a
constant in the channels that RoPE turns slowly, and rotation would spread it over the whole row.

`smooth` is what keys are divided by, channel by channel, before they are rotated; queries are multiplied by it. The
rotation spreads the error of a row's codes evenly over its channels, and coming back each channel's part is multiplied
by its factor. Channels that are large where queries are small, as outliers are, get factors that undo both.

`lambda`, the paper's, weighs the rotated row's channels. It is not deployed, as it shows nothing on top of the others;
`quality` measures it.

All come from one reading of a text (`calibrate`); before that, `start` knows `mu` from the model's weights alone.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from app.engine.sensitivity import TOO_SENSITIVE, beyond_budget, kl_of_layers, sensitive_layers
from app.engine.window_cache import Queries, Rows, as_they_are, window_caches
from kernels import dispatch
from kernels.rotation import Rotation, RotationKind

if TYPE_CHECKING:
    from app.engine.cache_plan import CachePlan

_log = logging.getLogger(__name__)

WINDOWS = 8
WINDOW_TOKENS = 128
SENSITIVITY_TOKENS = 64
CPU_WINDOW_TOKENS = 64
CPU_SENSITIVITY_TOKENS = 16
"""A CPU reads a hundred tokens a second, where a GPU reads thousands."""
POSITIONS = 4096
"""The windows stand at positions spread over as many as a usual conversation has: a channel that RoPE turns within that
many has no mean worth subtracting."""
MIN_LAMBDA = 1e-6
_SMALLEST_RMS = 1e-3
"""Of a channel, over the row's largest: one that is always 0 would get an endless factor. So factors of `smooth` are
within a thousand of each other."""
_SMALLEST_SQUARE = 1e-30
"""Stands for the squares of channels that are all 0."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerConstants:
    """One layer's part. None stands for a `mu` of 0 and factors of 1.

    Shapes: `mu` and `lam` `[2, Hk, D]` float32, keys at 0, values at 1; `smooth` `[Hk, D]` float32, of keys.
    """

    mu: mx.array | None = None
    smooth: mx.array | None = None
    lam: mx.array | None = None
    """For `quality`; no cache uses it."""
    reason: str = ""
    """Why the layer is to stay fp16; "" where it is not."""

    @property
    def arrays(self) -> dict[str, mx.array]:
        """Those constants that there are, by name."""
        named = (("mu", self.mu), ("smooth", self.smooth), ("lam", self.lam))
        return {name: array for name, array in named if array is not None}


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
        return sum(array.nbytes for layer in self.layers for array in layer.arrays.values())


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

    def hearing(layer: int) -> Queries:
        return lambda queries: moments[layer].add_queries(queries[:, :, 1:])

    for window, offset in zip(windows, offsets, strict=True):
        model(mx.array([window]), cache=window_caches(model, plan.reasons, recording, offset, hearing))
        mx.eval([m.arrays for m in moments])
        work.done(len(window))
    constants = [m.constants() if m.count else LayerConstants() for m in moments]
    for layer, c in enumerate(constants):
        for array in c.arrays.values():
            if not mx.isfinite(array).all().item():
                raise CalibrationError(f"layer {layer} has rows that are not finite")
    return _judged(model, plan, constants, tokens[-sensitivity_tokens:], work)


class Moments:
    """What is known of a layer's rows and queries over all windows so far.

    That is the mean row, the products of deviations from it, channel by channel, and the queries' squares. Windows are
    merged by the formula of Chan, Golub and LeVeque (1979): no difference of large sums loses the digits.

    Shapes: `mean` `[2, Hk, D]`, `products` `[2, Hk, D, D]`, `energy` `[Hk, D]`, float32.
    """

    def __init__(self, layer: int) -> None:
        self.layer = layer
        self.count = 0
        self.mean = self.products = self.energy = mx.zeros(())

    @property
    def arrays(self) -> list[mx.array]:
        """What has to be computed before the next window."""
        return [self.mean, self.products, self.energy]

    def add(self, keys: mx.array, values: mx.array) -> None:
        """Take a window's rows. Shapes: `[1, Hk, L, D]` each."""
        rows = mx.concatenate([keys, values]).astype(mx.float32)
        n = rows.shape[2]
        mean = rows.mean(axis=2)
        deviations = rows - mean[:, :, None]
        products = deviations.swapaxes(-1, -2) @ deviations
        if self.count:
            total = self.count + n
            gap = mean - self.mean
            mean = self.mean + gap * (n / total)
            products = self.products + products + gap[..., None] * gap[..., None, :] * (self.count * n / total)
        self.count += n
        self.mean, self.products = mean, products

    def add_queries(self, queries: mx.array) -> None:
        """Take the queries that attend to the rows that were added last. Shapes: `[1, Hq, L, D]`."""
        heads, dim = self.mean.shape[1:]
        self.energy = self.energy + queries.astype(mx.float32).square().reshape(heads, -1, dim).sum(axis=1)

    def constants(self) -> LayerConstants:
        """Return the layer's constants."""
        variance = mx.diagonal(self.products, axis1=-2, axis2=-1) / self.count
        smooth = factors(variance[0], self.energy)
        lam = self._lambda(mx.stack([smooth, mx.ones_like(smooth)]))
        mx.eval(self.mean, smooth, lam)
        return LayerConstants(self.mean, smooth, lam)

    def _lambda(self, smooth: mx.array) -> mx.array:
        """Return lambda of smoothed rows as 1 / sqrt(RMS), with a mean of 1 over each row. Shapes: `[2, Hk, D]` both.

        That is half the way to channels that are all equally large. Rows coded so had a smaller squared error than with
        1 / RMS, where the channels that were small share the error of the large ones.
        """
        rotation = Rotation(RotationKind.SRFT, smooth.shape[-1], self.layer)
        products = self.products / (smooth[..., None] * smooth[..., None, :])
        rotated = rotation.apply(rotation.apply(products).swapaxes(-1, -2))
        rms = mx.sqrt(mx.maximum(mx.diagonal(rotated, axis1=-2, axis2=-1), 0) / self.count)
        rms = mx.maximum(rms, rms.max(axis=-1, keepdims=True) * _SMALLEST_RMS)
        lam = mx.where(rms > 0, mx.rsqrt(rms), 1)
        return mx.maximum(lam / lam.mean(axis=-1, keepdims=True), MIN_LAMBDA)


def factors(variance: mx.array, energy: mx.array) -> mx.array:
    """Return `smooth` for keys of this variance, of whose queries the squares add up to `energy`.

    A score's error is that of q * (k - its coded value), summed over channels. Coded behind a rotation, every channel
    of the smoothed key has an error in proportion to the mean of variance / smooth^2, and un-smoothed smooth^2 times
    that. Weighed by the queries the whole is sum(energy * smooth^2) * sum(variance / smooth^2), which by Cauchy and
    Schwarz is least where smooth^2 is in proportion to sqrt(variance / energy). A head's factors have a geometric mean
    of 1.

    Shapes: `[Hk, D]` all.
    """
    least = _SMALLEST_RMS**2
    variance, energy = (
        mx.maximum(x, mx.maximum(x.max(axis=-1, keepdims=True) * least, _SMALLEST_SQUARE)) for x in (variance, energy)
    )
    logs = (mx.log(variance) - mx.log(energy)) / 4
    return mx.exp(logs - logs.mean(axis=-1, keepdims=True))


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
    layers = tuple(replace(c, reason=TOO_SENSITIVE) if layer in kept else c for layer, c in enumerate(constants))
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
