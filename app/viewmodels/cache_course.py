"""How the open chat's KV cache has grown, beside what fp16 would have taken: the panel's two lines."""

from collections.abc import Iterable
from dataclasses import dataclass

from PySide6.QtCore import QObject, Signal

from app.chat.figures import CacheFigures
from app.chat.options import CacheMode
from app.viewmodels.chat_session import ChatSession
from app.viewmodels.panel_state import PanelState, format_bytes

MOST_POINTS = 200
"""Readings that are kept; beyond, every second of the older half goes."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """The cache at one moment."""

    tokens: int
    own_bytes: int
    fp16_bytes: int


@dataclass(frozen=True, slots=True)
class Course:
    """Two lines in a unit square, 0 at the left and at the bottom, with their words."""

    own: tuple[Point, ...] = ()
    fp16: tuple[Point, ...] = ()
    mode: CacheMode = CacheMode.INT4
    tokens_text: str = ""
    """The right end of the tokens' axis."""
    bytes_text: str = ""
    """The upper end of the bytes' axis."""
    text: str = "KV memory by tokens in the cache: nothing cached yet."


def course_of(readings: Iterable[Reading], mode: CacheMode) -> Course:
    """Return the lines through `readings`, which are in order of their tokens, from nothing cached on."""
    found = list(readings)
    if not found:
        return Course(mode=mode)
    last = found[-1]
    width = last.tokens
    height = max(max(r.own_bytes, r.fp16_bytes) for r in found) or 1
    whole = [Reading(0, 0, 0), *found]
    same = "" if mode is CacheMode.FP16 else f" In fp16 the same tokens would take {format_bytes(last.fp16_bytes)}."
    return Course(
        own=tuple((r.tokens / width, r.own_bytes / height) for r in whole),
        fp16=tuple((r.tokens / width, r.fp16_bytes / height) for r in whole),
        mode=mode,
        tokens_text=f"{last.tokens:,} tokens",
        bytes_text=format_bytes(height),
        text="KV memory by tokens in the cache, rows that hold a token: from nothing to "
        f"{format_bytes(last.own_bytes)} in {mode.value} at {last.tokens:,} tokens.{same} Counted from the shapes of "
        "the arrays, after every reply and a few times a second while one is written.",
    )


class CacheCourse(QObject):
    """Collects readings of the open chat: those of its stored replies, then what the engine tells."""

    changed = Signal(object)
    """A `Course`."""

    def __init__(self, session: ChatSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._kind = (CacheMode.INT4, 0)
        self._readings: list[Reading] = []
        self._course = Course()
        session.messages_reset.connect(self._begin)
        session.panel_changed.connect(self._note_panel)

    @property
    def course(self) -> Course:
        """What there is now."""
        return self._course

    def _begin(self) -> None:
        self._readings = []
        for message in self._session.messages:
            if message.figures is not None:
                self._note_figures(message.figures.cache)
        self._tell()

    def _note_figures(self, cache: CacheFigures) -> None:
        group_size = cache.group_size if cache.mode is CacheMode.INT4 else 0
        self._note((cache.mode, group_size), Reading(cache.tokens, cache.used_bytes, cache.fp16_used_bytes))

    def _note_panel(self, panel: PanelState) -> None:
        reading = Reading(panel.context_tokens, panel.used_bytes, panel.fp16_used_bytes)
        self._note((panel.mode, panel.group_size), reading)
        self._tell()

    def _note(self, kind: tuple[CacheMode, int], reading: Reading) -> None:
        """Add a reading; what another kind of cache held, or this one before it was cut back, no longer counts."""
        if kind != self._kind:
            self._kind = kind
            self._readings = []
        while self._readings and self._readings[-1].tokens >= reading.tokens:
            self._readings.pop()
        if reading.tokens:
            self._readings.append(reading)
        if len(self._readings) > MOST_POINTS:
            half = len(self._readings) // 2
            self._readings = self._readings[:half:2] + self._readings[half:]

    def _tell(self) -> None:
        course = course_of(self._readings, self._kind[0])
        if course != self._course:
            self._course = course
            self.changed.emit(course)
