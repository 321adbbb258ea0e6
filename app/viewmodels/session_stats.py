"""The figures of all replies since Nibble was started, those of earlier sessions, and their way into a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from app.chat.comparison import KeptComparison
from app.chat.figures import MachineFacts, ReplyFigures
from app.errors import NibbleError
from app.stats.export import export_rows
from app.stats.history import MOST_BYTES, MOST_SESSIONS, SessionHistory
from app.stats.session import Row, Session
from app.viewmodels.engine_client import EngineClient

COMPARISON_TITLE = "Compare int4 with fp16"
"""Stands where a chat's title would."""
THIS_SESSION = ""
"""The name of the session that is going on; earlier ones are named by the history."""
BOUND_TEXT = (
    f"The latest {MOST_SESSIONS} earlier sessions are kept in Nibble's data folder, at most "
    f"{MOST_BYTES // 1_000_000} MB; older ones are deleted as a new one begins."
)


@dataclass(frozen=True, slots=True)
class SessionChoice:
    """One session that can be shown: its name, and what a person reads."""

    name: str
    label: str


@dataclass(frozen=True, slots=True)
class ShownSession:
    """A session's replies, where they were measured (None: nowhere yet), and what could not be read of them."""

    rows: tuple[Row, ...]
    machine: MachineFacts | None
    notice: str = ""
    comparisons: tuple[KeptComparison, ...] = ()
    """Those of the session that is going on; earlier ones are kept with their conversations."""


class SessionStats(QObject):
    """Collects one row a reply, those of comparisons included, and keeps them in `history`, where there is one."""

    changed = Signal()
    failed = Signal(str, str)
    """The session cannot be kept: message and hint. Told once."""

    def __init__(
        self, engine: EngineClient, history: SessionHistory | None = None, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._history = history
        self._is_kept = True
        self._session = Session()
        self._comparisons: list[KeptComparison] = []

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows so far, the first first."""
        return self._session.rows()

    def add(self, chat_title: str, figures: ReplyFigures) -> None:
        """Note one more reply."""
        row = Row(chat_title, figures)
        self._session.add(row)
        if self._history is not None and self._is_kept and self._engine.machine is not None:
            try:
                self._history.append(row, self._engine.machine)
            except NibbleError as error:
                self._is_kept = False
                self.failed.emit(error.message, error.hint)
        self.changed.emit()

    def choices(self) -> tuple[SessionChoice, ...]:
        """Return all sessions that can be shown, this one first, then the latest."""
        earlier = () if self._history is None else self._history.earlier()
        return (
            SessionChoice(THIS_SESSION, "This session"),
            *(SessionChoice(e.name, f"{e.started_at.astimezone():%d %B %Y, %H:%M:%S}") for e in earlier),
        )

    def session(self, name: str) -> ShownSession:
        """Return one session. Raises NibbleError where an earlier one cannot be read."""
        if name == THIS_SESSION or self._history is None:
            return ShownSession(self.rows, self._engine.machine, comparisons=tuple(self._comparisons))
        kept = self._history.read(name)
        return ShownSession(kept.rows, kept.machine, kept.notice)

    def delete(self, name: str) -> None:
        """Delete an earlier session's figures. Raises NibbleError."""
        if self._history is not None and name != THIS_SESSION:
            self._history.delete(name)

    def add_comparison(self, kept: KeptComparison) -> None:
        """Note a comparison: a row for each of its replies, and for an export the whole of it."""
        self._comparisons.append(kept)
        for one in kept.rounds:
            for figures in (one.fp16, one.int4):
                self.add(COMPARISON_TITLE, figures)

    def export(self, path: Path, replies: Sequence[ReplyFigures] | None = None) -> None:
        """Write the replies of a comparison, or all rows and comparisons, to `path`; its suffix says as what.

        Raises NibbleError.
        """
        if replies is None:
            shown = self.session(THIS_SESSION)
        else:
            rows = tuple(Row(COMPARISON_TITLE, figures) for figures in replies)
            kept = tuple(kept for kept in self._comparisons if kept.rounds[0].fp16 in replies)
            shown = ShownSession(rows, self._engine.machine, comparisons=kept)
        self.export_session(path, shown)

    def export_session(self, path: Path, session: ShownSession) -> None:
        """Write a session as CSV, JSON or Markdown by the suffix of `path`. Raises NibbleError."""
        if session.machine is None:
            raise NibbleError("The engine has not started yet, so there is nothing to export.")
        export_rows(path, session.rows, session.machine, session.comparisons)
