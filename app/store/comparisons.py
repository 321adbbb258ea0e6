"""The comparisons made beside conversations: one line of JSON each, in a file that only grows until the next start.

A file of its own and no table: a comparison is written once, never searched, and a reader of lines can skip a bad one.
"""

import json
import logging
import os
from collections.abc import Collection
from pathlib import Path

from app.chat.comparison import KeptComparison
from app.chat.plain import PlainError, from_plain, to_plain
from app.errors import NibbleError
from app.paths import move_aside, replace_text

_log = logging.getLogger(__name__)

MOST_COMPARISONS = 1000
MOST_BYTES = 20_000_000
"""What is kept, the latest first: so many, of so many bytes in all."""


class ComparisonFile:
    """All kept comparisons, in the file at `path`. Methods raise NibbleError where the disk is in the way."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, kept: KeptComparison) -> None:
        """Append a comparison."""
        line = json.dumps(to_plain(kept), allow_nan=False) + "\n"
        try:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NibbleError(
                f"The comparison could not be kept: {error.strerror or error}.",
                "It can still be copied and exported. Check that the disk is not full.",
            ) from error

    def of_conversation(self, conversation_id: int) -> list[KeptComparison]:
        """Return the comparisons made beside a conversation, the first first."""
        found = (_kept(line) for line in self._lines())
        return [kept for kept in found if kept is not None and kept.conversation_id == conversation_id]

    def prune(self, conversation_ids: Collection[int]) -> None:
        """Drop the comparisons of all other conversations, and the oldest beyond the bounds.

        Lines that cannot be read stay, and do not count.
        """
        lines = self._lines()
        left: list[str] = []
        count = size = 0
        for line in reversed(lines):
            kept = _kept(line)
            if kept is not None:
                if kept.conversation_id not in conversation_ids:
                    continue
                count, size = count + 1, size + len(line.encode(errors="replace"))
                if count > MOST_COMPARISONS or size > MOST_BYTES:
                    continue
            left.append(line)
        left.reverse()
        if left != lines:
            replace_text(self._path, "".join(f"{line}\n" for line in left))

    def set_aside(self) -> None:
        """Move the file aside, where there is one: ids in a new database mean other conversations."""
        try:
            if self._path.exists():
                move_aside(self._path, "earlier")
        except OSError as error:
            raise NibbleError(f"{self._path} could not be moved aside: {error.strerror or error}.") from error

    def _lines(self) -> list[str]:
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise NibbleError(f"{self._path} could not be read: {error.strerror or error}.") from error
        return [line for line in text.split("\n") if line]


def _kept(line: str) -> KeptComparison | None:
    """Build a comparison from its line, or None: one spoiled line must not hide the others."""
    try:
        value: KeptComparison = from_plain(KeptComparison, json.loads(line))
        if not value.rounds:
            raise PlainError("rounds: there are none")
    except (PlainError, ValueError, RecursionError):
        _log.warning("a kept comparison cannot be read")
        return None
    return value
