"""The replies of this session and what was measured of them."""

from dataclasses import dataclass

from app.chat.figures import ReplyFigures


@dataclass(frozen=True, slots=True)
class Row:
    """One reply's figures, and the chat it belongs to."""

    chat_title: str
    figures: ReplyFigures


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

    @property
    def is_empty(self) -> bool:
        """Whether no reply has ended yet."""
        return not self._rows
