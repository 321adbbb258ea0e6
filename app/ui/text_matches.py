"""Where a text occurs in a document, and how that is marked."""

from dataclasses import dataclass

from PySide6.QtGui import QBrush, QPalette, QTextCharFormat, QTextCursor, QTextDocument
from PySide6.QtWidgets import QTextEdit

from app.ui.theme import accent, ink_on, marked


@dataclass(frozen=True, slots=True)
class Match:
    """One occurrence, in characters of the document."""

    start: int
    end: int


def matches_in(document: QTextDocument, needle: str) -> list[Match]:
    """Return all occurrences of `needle`, in upper or lower case, none across a line's end."""
    found: list[Match] = []
    cursor = QTextCursor(document)
    while needle and not (cursor := document.find(needle, cursor)).isNull():
        found.append(Match(cursor.selectionStart(), cursor.selectionEnd()))
    return found


def count_plain(text: str, needle: str) -> int:
    """Return how often `needle` occurs in a plain text, counted as `matches_in` does."""
    if not needle or needle.casefold() not in text.casefold():
        return 0
    document = QTextDocument()
    document.setPlainText(text)
    return len(matches_in(document, needle))


def marks(
    document: QTextDocument, matches: list[Match], current: int | None, palette: QPalette
) -> list[QTextEdit.ExtraSelection]:
    """Return what shows the matches, the current one stronger."""
    made = []
    for i, match in enumerate(matches):
        selection = QTextEdit.ExtraSelection()
        cursor = QTextCursor(document)
        cursor.setPosition(match.start)
        cursor.setPosition(match.end, QTextCursor.MoveMode.KeepAnchor)
        form = QTextCharFormat()
        if i == current:
            form.setBackground(QBrush(accent(palette)))
            form.setForeground(QBrush(ink_on(accent(palette))))
        else:
            form.setBackground(QBrush(marked(palette)))
        selection.cursor, selection.format = cursor, form
        made.append(selection)
    return made
