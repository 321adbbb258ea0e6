"""The measuring stick: what a coded cache does to a model's predictions, against its own 16-bit cache.

Each window of text is read from an empty cache, once with the model's own cache and once with every variant of
`codings`, coded as in decode (`coded_cache`). The tokens of the second half are scored: perplexity, KL(fp16 || variant)
in nats, and whether the likeliest next token is the same. The first half is context, as a conversation has it.

Logits are those of the model in its own type, compared in float32. Of one window the 16-bit cache's logits of scored
tokens are kept in the model's type; everything else is a chunk long, so memory does not grow with windows or variants.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import mlx.core as mx
from mlx_lm.generate import wired_limit

from app.chat.figures import LayerNote
from app.chat.quality import Effort, QualityReport, VariantQuality, WindowScore, variant_quality
from app.engine.cache_plan import CachePlan, plan_cache
from app.engine.calibration import POSITIONS
from app.engine.calibration import start as start_calibration
from app.engine.coded_cache import coded_caches
from app.engine.codings import (
    NotCodableError,
    PricedCoding,
    Variant,
    our_variants,
    plain_variants,
    uncalibrated_variant,
)
from app.engine.layer_cache import kv_part
from app.engine.machine import machine_facts
from app.engine.model_folder import OpenModel
from app.engine.quality_text import QualityText, windows_of
from app.errors import NibbleError
from kernels import dispatch

Report = Callable[[float, str], None]
"""Is told the share that is done, 0 to 1, and what is being done."""

_CHUNK_TOKENS = 256
_CPU_CHUNK_TOKENS = 128
"""A request to stop is heard between chunks."""
_SLICE_VALUES = 2**24
"""Logits that are compared at once in float32: 64 MB."""


class QualityStoppedError(Exception):
    """Measuring was told to stop."""


def measure_deployed(
    opened: OpenModel, text: QualityText, effort: Effort, report: Report, cancelled: Callable[[], bool]
) -> QualityReport:
    """Measure an open model's int4 cache as deployed, beside other ways and with each ingredient taken away.

    The constants of ours are those that the model was opened with. Raises as `measure` does.
    """
    # The plan that the model has leaves out what calibration keeps in fp16; other ways code those layers too.
    whole = replace(opened, plan=plan_cache(opened.model))
    known = start_calibration(opened.model, whole.plan, min(POSITIONS, opened.facts.context_limit_tokens))
    calibration = opened.calibration or known
    variants = [*plain_variants(), uncalibrated_variant(known.layers), *our_variants(calibration.layers)]
    kept = CachePlan(tuple(constants.reason for constants in calibration.layers)).notes
    remarks = (*(layer_remark("ours", note) for note in kept), *calibration.remarks)
    return measure(whole, text, effort, variants, calibration.source, report, cancelled, remarks)


def measure(
    opened: OpenModel,
    text: QualityText,
    effort: Effort,
    variants: Sequence[Variant],
    calibration: str,
    report: Report,
    cancelled: Callable[[], bool],
    remarks: Sequence[str] = (),
) -> QualityReport:
    """Measure every variant on `text`. `calibration`: where the constants of ours come from, in words.

    A variant that does not exist for the model's head size, or whose logits are not finite, is left out with a remark.
    Raises NibbleError where the text is too short, the context too long or no layer can be coded; QualityStoppedError
    once `cancelled()`.
    """
    facts = opened.facts
    if all(opened.plan.reasons):
        raise NibbleError(f"No layer of {facts.name} can be int4: {opened.plan.reasons[0]}.", "Choose another model.")
    if effort.context_tokens > facts.context_limit_tokens:
        raise NibbleError(
            f"{facts.name} can read {facts.context_limit_tokens:,} tokens, not {effort.context_tokens:,}.",
            "Choose a shorter context.",
        )
    windows = windows_of(text, opened.tokenizer, effort.windows, effort.context_tokens)
    work = _Work(len(windows) * (len(variants) + 1) * effort.context_tokens, report, cancelled)
    runs = [_Run(opened, variant) for variant in variants]
    with wired_limit(opened.model):
        for number, window in enumerate(windows, 1):
            where = f"window {number} of {len(windows)}, "
            reader = _Reader(opened.model, window, effort)
            own = coded_caches(opened.model, [None] * len(opened.plan.reasons))
            reference = list(reader.scored_logits(own, work, where + "the model's own cache"))
            if not all(mx.isfinite(logits).all().item() for logits in reference):
                raise NibbleError(f"{facts.name} itself computes logits that are not finite on {text.name}.")
            del own
            for run in runs:
                run.read(reader, reference, work, where + run.variant.name)
    return QualityReport(
        model=facts,
        machine=machine_facts(),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        compute_dtype=str(reference[0].dtype).rpartition(".")[2],
        calibration=calibration,
        text_name=text.name,
        text_sha256=text.sha256,
        context_tokens=effort.context_tokens,
        scored_tokens=effort.scored_tokens,
        windows=len(windows),
        variants=tuple(run.quality() for run in runs if not run.left_out),
        remarks=(
            *(layer_remark("all variants", note) for note in opened.plan.notes),
            *remarks,
            *(f"{run.variant.name} is left out: {run.left_out}." for run in runs if run.left_out),
        ),
    )


@dataclass(frozen=True, slots=True)
class Sums:
    """What `compared` adds up over tokens."""

    nll: float
    kl: float
    agreed: float

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.nll + other.nll, self.kl + other.kl, self.agreed + other.agreed)


def compared(reference: mx.array, logits: mx.array, targets: mx.array) -> Sums:
    """Compare next-token distributions, in float32 and a slice at a time.

    Returns sums over tokens: of -log p(target) by `logits`, of KL(reference || logits), of equal likeliest tokens.
    Shapes: `[L, V]` logits of any float type, `[L]` token ids.
    """
    sums = Sums(0.0, 0.0, 0.0)
    rows = max(1, _SLICE_VALUES // logits.shape[-1])
    for start in range(0, logits.shape[0], rows):
        part = slice(start, start + rows)
        p, q = (_log_softmax(x[part]) for x in (reference, logits))
        nll = -mx.take_along_axis(q, targets[part, None], axis=-1).sum()
        chance = mx.exp(p)
        kl = mx.where(chance > 0, chance * (p - q), 0).sum()
        agreed = (p.argmax(axis=-1) == q.argmax(axis=-1)).sum()
        found: Any = mx.stack([nll, kl, agreed.astype(mx.float32)]).tolist()
        sums += Sums(found[0], max(0.0, found[1]), found[2])
    return sums


def _log_softmax(logits: mx.array) -> mx.array:
    x = logits.astype(mx.float32)
    return x - mx.logsumexp(x, axis=-1, keepdims=True)


class _Work:
    """How much is done, in tokens read."""

    def __init__(self, tokens: int, report: Report, cancelled: Callable[[], bool]) -> None:
        self._tokens, self._done = tokens, 0
        self._report, self._cancelled = report, cancelled

    def begin(self, what: str) -> None:
        """Say what is being done. Raises QualityStoppedError."""
        if self._cancelled():
            raise QualityStoppedError
        self._report(min(1.0, self._done / self._tokens), what)

    def done(self, tokens: int) -> None:
        """Count `tokens` more."""
        self._done += tokens


class _Reader:
    """Reads one window in chunks."""

    def __init__(self, model: Any, window: list[int], effort: Effort) -> None:
        self._model = model
        self._tokens = mx.array(window)
        first = effort.context_tokens - effort.scored_tokens
        self._bounds = [*_cuts(0, first), *_cuts(first, effort.context_tokens)]
        self._first = first

    def scored_logits(self, caches: list[Any], work: _Work, what: str) -> Iterator[mx.array]:
        """Yield the logits of scored tokens, a chunk at a time. Shapes: `[L, V]`, computed."""
        for start, end in self._bounds:
            work.begin(what)
            logits = self._model(self._tokens[None, start:end], cache=caches)
            if start < self._first:
                # The logits of context are never computed: MLX is lazy.
                mx.eval([cache.state for cache in caches])
            else:
                mx.eval(logits)
                yield logits[0]
            work.done(end - start)

    def targets(self) -> Iterator[mx.array]:
        """Yield the tokens that follow the scored ones, by the same chunks. Shapes: `[L]`."""
        for start, end in self._bounds:
            if start >= self._first:
                yield self._tokens[start + 1 : end + 1]


def _cuts(start: int, end: int) -> list[tuple[int, int]]:
    step = _CPU_CHUNK_TOKENS if dispatch.backend() == "cpu" else _CHUNK_TOKENS
    return [(at, min(end, at + step)) for at in range(start, end, step)]


class _Run:
    """One variant through all windows."""

    def __init__(self, opened: OpenModel, variant: Variant) -> None:
        self.variant = variant
        self.left_out = ""
        self._model = opened.model
        self._coded = [not reason for reason in opened.plan.reasons]
        self._codings = [variant.coding_of(layer) if coded else None for layer, coded in enumerate(self._coded)]
        self._scores: list[WindowScore] = []
        self._bits = 0.0

    def read(self, reader: _Reader, reference: Sequence[mx.array], work: _Work, what: str) -> None:
        """Score one window."""
        if self.left_out:
            return
        caches = coded_caches(self._model, self._codings)
        sums, tokens = Sums(0.0, 0.0, 0.0), 0
        try:
            chunks = zip(reference, reader.scored_logits(caches, work, what), reader.targets(), strict=True)
            for own, logits, targets in chunks:
                sums += compared(own, logits, targets)
                tokens += targets.size
        except NotCodableError as error:
            self.left_out = str(error)
            return
        if not math.isfinite(sums.nll + sums.kl):
            self.left_out = "its logits are not finite"
            return
        self._bits = _bits_per_value(caches, self._codings, self._coded)
        self._scores.append(WindowScore(math.exp(sums.nll / tokens), sums.kl / tokens, sums.agreed / tokens))

    def quality(self) -> VariantQuality:
        """Return the figures of all windows."""
        variant = self.variant
        return variant_quality(variant.name, variant.description, self._bits, self._scores, variant.deployed_group_size)


def _bits_per_value(caches: list[Any], codings: Sequence[PricedCoding | None], coded: Sequence[bool]) -> float:
    """Return what a value costs on average over the layers that can be coded."""
    values, bits = 0, 0.0
    for cache, coding, counts in zip(caches, codings, coded, strict=True):
        if counts:
            keys = kv_part(cache).keys
            _, heads, _, dim = keys.shape
            values += heads * dim
            bits += heads * dim * (coding.bits_per_value(dim) if coding else 8 * keys.dtype.size)
    return bits / values


def layer_remark(where: str, note: LayerNote) -> str:
    """Say which layers stay fp16 in which variants, and why."""
    return f"fp16 in {where}, layers {', '.join(map(str, note.layers))}: {note.reason}."
