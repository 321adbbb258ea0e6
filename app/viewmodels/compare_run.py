"""One prompt through fp16 and int4, once or several times."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from PySide6.QtCore import QObject, Signal, SignalInstance

from app.chat.comparison import Round, compare_replies
from app.chat.message import Message
from app.chat.options import CacheMode, ChatOptions
from app.engine.protocol import Cancel, Failed, Finished, Generate, Prefill, Progress, Request, Token
from app.viewmodels.compare_table import CompareResult, counted
from app.viewmodels.panel_state import UNMEASURED, format_speed

ORDER = (CacheMode.FP16, CacheMode.INT4)
MOST_ROUNDS = 9


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


class CompareRun(QObject):
    """Sends one prompt with one seed through fp16, then int4, each with a fresh cache.

    Where it is repeated the order is turned round every round, so that a machine that grows warm or busy is so for
    both. Columns hear of the first round alone: with one seed the later ones write the same.

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
        self._rounds = 1
        self._done: list[Finished] = []
        engine.event_received.connect(self._receive)
        engine.died.connect(self._lose_engine)

    @property
    def is_running(self) -> bool:
        """Tell whether a request is under way."""
        return bool(self._request_id)

    def start(self, messages: Sequence[Message], options: ChatOptions, greedy: bool, rounds: int = 1) -> None:
        """Begin a run of so many rounds; ignored while one is under way.

        `greedy` sets the temperature to 0. Where `options` fix no seed one is drawn, the same for both replies.
        """
        if self.is_running:
            return
        sampling = options.sampling
        seed = random.randrange(2**31) if sampling.seed is None else sampling.seed
        temperature = 0.0 if greedy else sampling.temperature
        self._messages = tuple(messages)
        self._options = replace(options, sampling=replace(sampling, seed=seed, temperature=temperature))
        self._rounds = rounds
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
        number, place = divmod(len(self._done), len(ORDER))
        return ORDER[place if number % 2 == 0 else -1 - place]

    @property
    def _is_first_round(self) -> bool:
        return len(self._done) < len(ORDER)

    def _tell(self, what: str) -> None:
        number = 1 + len(self._done) // len(ORDER)
        where = f"Round {number} of {self._rounds}, {self._mode}" if self._rounds > 1 else f"{self._mode}"
        self.status_changed.emit(f"{where}: {what}")

    def _send_next(self) -> None:
        self._text = ""
        self._request_id = self._engine.new_request_id()
        self._tell("waiting for the engine")
        options = replace(self._options, cache_mode=self._mode)
        chat_id = f"compare-{self._request_id}"
        self._engine.send(Generate(self._request_id, chat_id, self._messages, options, reuse_cache=False))

    def _receive(self, event: object) -> None:
        if not self.is_running or getattr(event, "request_id", None) != self._request_id:
            return
        if isinstance(event, Token):
            if event.text:
                self._text += event.text
                if self._is_first_round:
                    self.column_changed.emit(self._mode, self._text)
        elif isinstance(event, Prefill | Progress):
            if not self._cancelling:
                self._tell(_activity(event))
        elif isinstance(event, Finished):
            self._finish_column(event)
        elif isinstance(event, Failed):
            self._end()
            self.failed.emit(event.message, event.hint)

    def _finish_column(self, event: Finished) -> None:
        if self._is_first_round:
            if event.text != self._text:
                self.column_changed.emit(self._mode, event.text)
            self.column_finished.emit(self._mode, event)
        if self._cancelling or event.figures.finish_reason == "cancelled":
            self._end()
            self.cancelled.emit()
            return
        self._done.append(event)
        if len(self._done) < self._rounds * len(ORDER):
            self._send_next()
            return
        self._end()
        self.finished.emit(self._result())

    def _result(self) -> CompareResult:
        first, second = self._done[:2]
        comparison = compare_replies(first.token_ids, second.token_ids, first.text, second.text)
        pairs = zip(self._done[::2], self._done[1::2], strict=True)
        ordered = [pair if number % 2 == 0 else pair[::-1] for number, pair in enumerate(pairs)]
        rounds = tuple(Round(fp16.figures, int4.figures) for fp16, int4 in ordered)
        return CompareResult(first, second, comparison, rounds)

    def _lose_engine(self, reason: str) -> None:
        if self.is_running:
            self._end()
            self.failed.emit(reason, "Start the engine again, then run the comparison once more.")

    def _end(self) -> None:
        self._request_id = ""
        self.status_changed.emit("")


def _activity(event: Prefill | Progress) -> str:
    if isinstance(event, Prefill):
        return f"reading {event.done_tokens:,} of {event.total_tokens:,} tokens"
    speed = format_speed(event.decode_tokens_per_s)
    written = counted(event.generated_tokens, "token") + " written"
    return written if speed == UNMEASURED else f"{written}, {speed}"
