"""The figures of all replies since Nibble was started, and their way into a file."""

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from app.chat.comparison import KeptComparison
from app.chat.figures import ReplyFigures
from app.errors import NibbleError
from app.stats.export import export_rows
from app.stats.session import Row, Session
from app.viewmodels.engine_client import EngineClient

COMPARISON_TITLE = "Compare int4 with fp16"
"""Stands where a chat's title would."""


class SessionStats(QObject):
    """Collects one row a reply, those of comparisons included."""

    changed = Signal()

    def __init__(self, engine: EngineClient, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._engine = engine
        self._session = Session()
        self._comparisons: list[KeptComparison] = []

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows so far, the first first."""
        return self._session.rows()

    def add(self, chat_title: str, figures: ReplyFigures) -> None:
        """Note one more reply."""
        self._session.add(Row(chat_title, figures))
        self.changed.emit()

    def add_comparison(self, kept: KeptComparison) -> None:
        """Note a comparison: a row for each of its replies, and for an export the whole of it."""
        self._comparisons.append(kept)
        for one in kept.rounds:
            for figures in (one.fp16, one.int4):
                self.add(COMPARISON_TITLE, figures)

    def export(self, path: Path, replies: Sequence[ReplyFigures] | None = None) -> None:
        """Write the replies of a comparison, or all rows and comparisons, as CSV or JSON by the suffix of `path`.

        Raises NibbleError.
        """
        if self._engine.machine is None:
            raise NibbleError("The engine has not started yet, so there is nothing to export.")
        rows, comparisons = self.rows, self._comparisons
        if replies is not None:
            rows = tuple(Row(COMPARISON_TITLE, figures) for figures in replies)
            comparisons = [kept for kept in comparisons if kept.rounds[0].fp16 in replies]
        export_rows(path, rows, self._engine.machine, comparisons)
