"""The replies of this session and what was measured of them."""

from dataclasses import dataclass

from app.chat.figures import LayerNote, ReplyFigures
from app.chat.options import CacheMode


@dataclass(frozen=True, slots=True)
class Row:
    """One reply's figures, and the chat it belongs to."""

    chat_title: str
    figures: ReplyFigures

    @property
    def group_size(self) -> int | None:
        """Values that share one scale; None for a cache without scales."""
        cache = self.figures.cache
        return cache.group_size if cache.mode is CacheMode.INT4 else None

    @property
    def fp16_layer_reasons(self) -> str:
        """Why layers' caches were not int4; "" where all were."""
        if self.figures.requested_mode is CacheMode.FP16:
            return "fp16 was asked for"
        return "; ".join(_note_text(note) for note in self.figures.cache.notes)


class Session:
    """All replies since the program started, in the order in which they ended."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Note one more reply."""
        self._rows.append(row)

    def rows(self) -> tuple[Row, ...]:
        """Return all replies, the first first."""
        return tuple(self._rows)


def _note_text(note: LayerNote) -> str:
    return f"{', '.join(str(i) for i in note.layers)}: {note.reason}"
