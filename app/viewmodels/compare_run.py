"""One prompt through fp16 and int4: the run, its result and the table of figures."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from PySide6.QtCore import QObject, Signal, SignalInstance

from app.chat.comparison import Comparison, compare_replies
from app.chat.figures import CacheFigures, ReplyFigures
from app.chat.message import Message
from app.chat.options import CacheMode, ChatOptions
from app.engine.protocol import Cancel, Failed, Finished, Generate, Prefill, Progress, Request, Token
from app.viewmodels.panel_state import EXPLANATIONS, UNMEASURED, format_bytes, format_seconds, format_speed

ORDER = (CacheMode.FP16, CacheMode.INT4)


class ComparableEngine(Protocol):
    """What a comparison asks of the engine's client."""

    @property
    def event_received(self) -> SignalInstance:
        """Every event of the engine."""

    @property
    def died(self) -> SignalInstance:
        """The engine is gone: reason, last lines of its stderr."""

    def send(self, request: Request) -> None:
        """Queue a request."""

    def new_request_id(self) -> str:
        """Return an id no other request has."""


@dataclass(frozen=True, slots=True)
class CompareResult:
    """Both replies, and where they part."""

    fp16: Finished
    int4: Finished
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class CompareRow:
    """One figure of both replies, as shown. `difference` is int4's as seen from fp16's."""

    label: str
    fp16: str
    int4: str
    difference: str
    tooltip: str = ""


class CompareRun(QObject):
    """Sends one prompt with one seed through fp16, then int4, each with a fresh cache.

    A run ends in exactly one of `finished`, `failed` and `cancelled`.
    """

    column_changed = Signal(object, str)
    """CacheMode, the text so far."""
    column_finished = Signal(object, object)
    """CacheMode, Finished."""
    status_changed = Signal(str)
    """What is being done, in words; "" when nothing is."""
    finished = Signal(object)
    """CompareResult."""
    failed = Signal(str, str)
    """Message, hint."""
    cancelled = Signal()

    def __init__(self, engine: ComparableEngine, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._engine = engine
        self._messages: tuple[Message, ...] = ()
        self._options = ChatOptions()
        self._request_id = ""
        self._text = ""
        self._cancelling = False
        self._done: list[Finished] = []
        engine.event_received.connect(self._receive)
        engine.died.connect(self._lose_engine)

    @property
    def is_running(self) -> bool:
        """Tell whether a request is under way."""
        return bool(self._request_id)

    def start(self, messages: Sequence[Message], options: ChatOptions, greedy: bool) -> None:
        """Begin a run; ignored while one is under way.

        `greedy` sets the temperature to 0. Where `options` fix no seed one is drawn, the same for both replies.
        """
        if self.is_running:
            return
        sampling = options.sampling
        seed = random.randrange(2**31) if sampling.seed is None else sampling.seed
        temperature = 0.0 if greedy else sampling.temperature
        self._messages = tuple(messages)
        self._options = replace(options, sampling=replace(sampling, seed=seed, temperature=temperature))
        self._done = []
        self._cancelling = False
        self._send_next()

    def cancel(self) -> None:
        """Stop the run as soon as the engine can; what was written stays in its column."""
        if self.is_running and not self._cancelling:
            self._cancelling = True
            self.status_changed.emit("Stopping")
            self._engine.send(Cancel(self._request_id))

    @property
    def _mode(self) -> CacheMode:
        return ORDER[len(self._done)]

    def _send_next(self) -> None:
        self._text = ""
        self._request_id = self._engine.new_request_id()
        self.status_changed.emit(f"{self._mode}: waiting for the engine")
        options = replace(self._options, cache_mode=self._mode)
        chat_id = f"compare-{self._request_id}"
        self._engine.send(Generate(self._request_id, chat_id, self._messages, options, reuse_cache=False))

    def _receive(self, event: object) -> None:
        if not self.is_running or getattr(event, "request_id", None) != self._request_id:
            return
        if isinstance(event, Token):
            if event.text:
                self._text += event.text
                self.column_changed.emit(self._mode, self._text)
        elif isinstance(event, Prefill | Progress):
            if not self._cancelling:
                self.status_changed.emit(f"{self._mode}: {_activity(event)}")
        elif isinstance(event, Finished):
            self._finish_column(event)
        elif isinstance(event, Failed):
            self._end()
            self.failed.emit(event.message, event.hint)

    def _finish_column(self, event: Finished) -> None:
        mode = self._mode
        if event.text != self._text:
            self.column_changed.emit(mode, event.text)
        self.column_finished.emit(mode, event)
        if self._cancelling or event.figures.finish_reason == "cancelled":
            self._end()
            self.cancelled.emit()
            return
        self._done.append(event)
        if len(self._done) < len(ORDER):
            self._send_next()
            return
        self._end()
        first, second = self._done
        comparison = compare_replies(first.token_ids, second.token_ids, first.text, second.text)
        self.finished.emit(CompareResult(first, second, comparison))

    def _lose_engine(self, reason: str) -> None:
        if self.is_running:
            self._end()
            self.failed.emit(reason, "Start the engine again, then run the comparison once more.")

    def _end(self) -> None:
        self._request_id = ""
        self.status_changed.emit("")


def compare_rows(result: CompareResult) -> tuple[CompareRow, ...]:
    """Return the table of figures of both replies, with what int4 changes."""
    rows = [_figure_row(result, *figure) for figure in _FIGURES]
    parting, agreement = result.comparison.first_different_token, result.comparison.agreement
    where = "never" if parting is None else f"after {_count(parting, 'equal token')}"
    rows.append(CompareRow(_PARTING[0], "", "", where, _PARTING[1]))
    rows.append(CompareRow(_AGREEMENT[0], "", "", f"{100 * agreement:.1f} %", _AGREEMENT[1]))
    return tuple(rows)


def unmeasured_rows() -> tuple[CompareRow, ...]:
    """Return the same table before anything was measured."""
    rows = [CompareRow(label, UNMEASURED, UNMEASURED, UNMEASURED, tooltip) for label, tooltip, _, _ in _FIGURES]
    rows += [CompareRow(label, "", "", UNMEASURED, tooltip) for label, tooltip in (_PARTING, _AGREEMENT)]
    return tuple(rows)


def markdown_table(rows: Sequence[CompareRow]) -> str:
    """Return the rows as a Markdown table, ending in a line feed."""
    lines = [("Figure", "fp16", "int4", "Difference"), ("---", "---:", "---:", "---:")]
    lines += [(row.label, row.fp16, row.int4, row.difference) for row in rows]
    return "".join(f"| {' | '.join(markdown_cell(cell) for cell in line)} |\n" for line in lines)


def conditions_text(options: ChatOptions, greedy: bool) -> str:
    """Say in a line under which settings both replies are written."""
    sampling = options.sampling
    if greedy or sampling.temperature == 0:
        drawn = "Always the likeliest token"
    else:
        seed = "one seed drawn for both" if sampling.seed is None else f"seed {sampling.seed}"
        drawn = f"Temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, {seed}"
    length = f"at most {_count(sampling.max_tokens, 'token')}"
    return f"{drawn}; {length}; int4 in groups of {options.group_size}. Sent without earlier turns, to empty caches."


def summary_text(figures: ReplyFigures) -> str:
    """Return one reply's figures in a line."""
    parts = (
        _count(figures.generated_tokens, "token"),
        format_speed(figures.decode_tokens_per_s),
        f"KV cache {format_bytes(figures.cache.allocated_bytes)}",
    )
    return ", ".join(part for part in parts if part != UNMEASURED)


def parting_text(result: CompareResult) -> str:
    """Say in a sentence where the two texts part."""
    at = result.comparison.first_different_char
    if at is None:
        return "Both replies are the same, to the last character."
    for mode, reply in ((CacheMode.FP16, result.fp16), (CacheMode.INT4, result.int4)):
        if at >= len(reply.text):
            return f"The texts are the same for {_count(at, 'character')}, then {mode} ends and the other goes on."
    return f"The texts are the same for {_count(at, 'character')}; where they part is underlined in both."


def _activity(event: Prefill | Progress) -> str:
    if isinstance(event, Prefill):
        return f"reading {event.done_tokens:,} of {event.total_tokens:,} tokens"
    speed = format_speed(event.decode_tokens_per_s)
    written = _count(event.generated_tokens, "token") + " written"
    return written if speed == UNMEASURED else f"{written}, {speed}"


_Shown = Callable[[ReplyFigures], str]
_Change = Callable[[ReplyFigures, ReplyFigures], str]


def _figure_row(result: CompareResult, label: str, tooltip: str, shown: _Shown, change: _Change) -> CompareRow:
    fp16, int4 = result.fp16.figures, result.int4.figures
    return CompareRow(label, shown(fp16), shown(int4), change(fp16, int4), tooltip)


def _percent(get: Callable[[ReplyFigures], float]) -> _Change:
    def change(fp16: ReplyFigures, int4: ReplyFigures) -> str:
        before, after = get(fp16), get(int4)
        if before <= 0 or after <= 0:
            return UNMEASURED
        return _signed(f"{100 * (after / before - 1):+.1f}", " %")

    return change


def _smaller(own: Callable[[CacheFigures], int], in_fp16: Callable[[CacheFigures], int]) -> _Change:
    """Compare bytes; a token's share of them where the caches differ in length, as their size in fp16 tells."""

    def change(fp16: ReplyFigures, int4: ReplyFigures) -> str:
        before, after = own(fp16.cache), own(int4.cache)
        of_before, of_after = in_fp16(fp16.cache), in_fp16(int4.cache)
        if 0 in (before, after, of_before, of_after):
            return UNMEASURED
        a_token = "" if of_before == of_after else " a token"
        ratio = before / after * of_after / of_before
        if f"{ratio:.2f}" == "1.00":
            return f"the same{a_token}"
        return f"{ratio:.2f}x smaller{a_token}" if ratio > 1 else f"{1 / ratio:.2f}x larger{a_token}"

    return change


def _saved(get: Callable[[ReplyFigures], int]) -> _Change:
    def change(fp16: ReplyFigures, int4: ReplyFigures) -> str:
        delta = get(int4) - get(fp16)
        if not delta:
            return "the same"
        return f"{'+' if delta > 0 else '−'}{format_bytes(abs(delta))}"

    return change


def _more(fp16: ReplyFigures, int4: ReplyFigures) -> str:
    delta = int4.generated_tokens - fp16.generated_tokens
    return _signed(f"{delta:+,}")


def _nothing(fp16: ReplyFigures, int4: ReplyFigures) -> str:
    return ""


def _signed(number: str, unit: str = "") -> str:
    return "the same" if not number.strip("+-0.,") else number.replace("-", "−") + unit


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def markdown_cell(text: str) -> str:
    """Return `text` as it may stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


_A_TOKEN = "Where one cache holds or reserves room for more tokens than the other, bytes a token are compared."
_PARTING = ("Texts part", "How many tokens both replies have in common at their start.")
_AGREEMENT = ("Agreement", "Equal tokens at equal positions, as a share of the longer reply's tokens.")

_FINISH_WORDS = {"stop": "the model ended", "length": "length limit", "cancelled": "stopped"}

_FIGURES: tuple[tuple[str, str, _Shown, _Change], ...] = (
    (
        "Decode speed",
        EXPLANATIONS["speed.decode"],
        lambda f: format_speed(f.decode_tokens_per_s),
        _percent(lambda f: f.decode_tokens_per_s),
    ),
    (
        "Prefill speed",
        EXPLANATIONS["speed.prefill"],
        lambda f: format_speed(f.prefill_tokens_per_s),
        _percent(lambda f: f.prefill_tokens_per_s),
    ),
    (
        "Time to first token",
        EXPLANATIONS["speed.ttft"],
        lambda f: format_seconds(f.ttft_s),
        _percent(lambda f: f.ttft_s),
    ),
    (
        "KV cache allocated",
        f"{EXPLANATIONS['cache.allocated']} {_A_TOKEN}",
        lambda f: format_bytes(f.cache.allocated_bytes),
        _smaller(lambda c: c.allocated_bytes, lambda c: c.fp16_allocated_bytes),
    ),
    (
        "KV cache used",
        f"{EXPLANATIONS['cache.used']} {_A_TOKEN}",
        lambda f: format_bytes(f.cache.used_bytes),
        _smaller(lambda c: c.used_bytes, lambda c: c.fp16_used_bytes),
    ),
    ("Ratio to fp16", EXPLANATIONS["cache.ratio"], lambda f: f"{f.cache.ratio:.2f}x", _nothing),
    (
        "Peak memory",
        EXPLANATIONS["memory.peak"],
        lambda f: format_bytes(f.memory.peak_bytes),
        _saved(lambda f: f.memory.peak_bytes),
    ),
    (
        "Layers in int4",
        EXPLANATIONS["cache.layers"],
        lambda f: f"{f.cache.layers_int4} of {f.cache.layers_total}",
        _nothing,
    ),
    ("Attention path", EXPLANATIONS["cache.path"], lambda f: f.cache.path or UNMEASURED, _nothing),
    (
        "Prompt",
        "Tokens of the whole prompt after the chat template.",
        lambda f: _count(f.prompt_tokens, "token"),
        _nothing,
    ),
    ("Reply", "Tokens written, the end-of-text token included.", lambda f: _count(f.generated_tokens, "token"), _more),
    (
        "Ended by",
        "Why the reply ended: the model ended it, a length limit, or a person.",
        lambda f: _FINISH_WORDS.get(f.finish_reason, f.finish_reason),
        _nothing,
    ),
)
