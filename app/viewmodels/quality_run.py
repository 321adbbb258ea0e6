"""What int4 costs the open model in quality: the run, how far it is, and what there is to choose before it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QObject, Signal

from app.chat.quality import MOST_PASSES, Effort, TextSource
from app.engine.protocol import Cancel, Failed, Measure, Measured, Measuring
from app.viewmodels.compare_run import ComparableEngine

CONTEXT_TOKENS = 1024
_EFFORTS = (("Few windows", 2, 512), ("Usual", 3, CONTEXT_TOKENS), ("Thorough", 5, CONTEXT_TOKENS))
USUAL = 1
"""Index of the effort that is chosen at first."""
_TELLING_SHARE = 0.04
"""From here on the time that is left can be told from the time that went by."""


@dataclass(frozen=True, slots=True)
class EffortChoice:
    """One effort as offered."""

    name: str
    effort: Effort
    cost: str
    """What it costs, in a sentence."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is."""

    fraction: float
    """0 to 1, or -1 while the engine is busy with something else."""
    step: str
    remaining: str = ""
    """About how long it will still take, in words; "" while nobody can know."""


class QualityRun(QObject):
    """Has the engine measure one text at a time.

    A run ends in exactly one of `finished`, `failed` and `cancelled`.
    """

    progressed = Signal(object)
    """RunProgress."""
    finished = Signal(object)
    """QualityReport."""
    failed = Signal(str, str, str)
    """Message, hint, detail."""
    cancelled = Signal()

    def __init__(
        self,
        engine: ComparableEngine,
        parent: QObject | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._clock = clock
        self._request_id = ""
        self._cancelling = False
        self._began_s = 0.0
        engine.event_received.connect(self._receive)
        engine.died.connect(self._lose_engine)

    @property
    def is_running(self) -> bool:
        """Tell whether a request is under way."""
        return bool(self._request_id)

    def start(self, text: TextSource, effort: Effort) -> None:
        """Begin a run; ignored while one is under way."""
        if self.is_running:
            return
        self._cancelling = False
        self._began_s = 0.0
        self._request_id = self._engine.new_request_id()
        self.progressed.emit(RunProgress(-1.0, "Waiting for the engine"))
        self._engine.send(Measure(self._request_id, text, effort))

    def cancel(self) -> None:
        """Stop the run as soon as the engine can."""
        if self.is_running and not self._cancelling:
            self._cancelling = True
            self.progressed.emit(RunProgress(-1.0, "Stopping"))
            self._engine.send(Cancel(self._request_id))

    def _receive(self, event: object) -> None:
        if not self.is_running or getattr(event, "request_id", None) != self._request_id:
            return
        if isinstance(event, Measuring):
            if not self._cancelling:
                self.progressed.emit(self._progress(event))
        elif isinstance(event, Measured):
            self._request_id = ""
            self.finished.emit(event.report)
        elif isinstance(event, Failed):
            self._request_id = ""
            if self._cancelling:
                self.cancelled.emit()
            else:
                self.failed.emit(event.message, event.hint, event.detail)

    def _progress(self, event: Measuring) -> RunProgress:
        now_s = self._clock()
        self._began_s = self._began_s or now_s
        remaining = ""
        if event.fraction >= _TELLING_SHARE:
            remaining = remaining_text((now_s - self._began_s) * (1 / event.fraction - 1))
        return RunProgress(event.fraction, event.step[:1].upper() + event.step[1:], remaining)

    def _lose_engine(self, reason: str, stderr_tail: str) -> None:
        if self.is_running:
            self._request_id = ""
            self.failed.emit(reason, "Restart the engine, then measure once more.", stderr_tail)


def effort_choices(context_limit_tokens: int) -> tuple[EffortChoice, ...]:
    """Return the efforts that a model with this limit can be measured with, the least first."""
    choices = []
    for name, windows, context_tokens in _EFFORTS:
        effort = Effort(windows, min(context_tokens, context_limit_tokens))
        choices.append(EffortChoice(name, effort, cost_text(effort)))
    return tuple(choices)


def cost_text(effort: Effort) -> str:
    """Say how much has to be read, to two digits."""
    tokens = float(f"{effort.read_tokens:.2g}")
    return (
        f"{effort.windows} windows of {effort.context_tokens:,} tokens, each read up to {MOST_PASSES} times: about "
        f"{tokens:,.0f} tokens in all."
    )


def remaining_text(seconds: float) -> str:
    """Say how long something will still take, no more exactly than it can be known."""
    if seconds < 10:
        return "A few seconds left"
    if seconds < 55:
        return f"About {10 * round(seconds / 10)} seconds left"
    minutes = max(1, round(seconds / 60))
    return f"About {minutes} minute{'' if minutes == 1 else 's'} left"
