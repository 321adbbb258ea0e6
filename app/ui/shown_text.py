"""How much of a message is shown, and how: some texts would keep Qt's layout busy for minutes, and nobody reads them.

The bounds are far beyond what a chat holds. Times were taken with tests/faults/test_fuzz_markdown.py's worst cases.
"""

import re

MOST_CHARACTERS = 200_000
MOST_LINES = 5_000
"""What lies beyond is not shown; it is kept, copied and sent all the same."""
MOST_MARKDOWN_CHARACTERS = 120_000
MOST_MARKDOWN_LINES = 4_000
"""A longer text is shown plainly."""
LONGEST_WORD = 2_000
"""Qt breaks a run of characters without a space in time that grows with its square."""
MOST_CELLS = 6_000
"""Strokes that may divide cells: a table's layout grows with the square of its columns."""
DEEPEST = 40
"""Marks of quotations or lists at the head of one line; deeper ones leave no room for text."""

_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD}}}(?=\S)")
_DEEP = re.compile(rf"^(?:[ \t]*(?:>|[-+*]|\d{{1,9}}[.)])[ \t]*){{{DEEPEST}}}", re.MULTILINE)
# They turn around what is written between them and the line's end: "exe.txt" for "txt.exe".
_OVERRIDES = re.compile("[\u202d\u202e]")
# Control characters but tab and line feed; U+FFFC and the two noncharacters stand for objects and frames in a document.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufdd0\ufdd1\ufffc]")


def is_markdown_size(text: str) -> bool:
    """Tell whether `text` can be laid out as markdown in a moment; if not, it is shown plainly."""
    return (
        len(text) <= MOST_MARKDOWN_CHARACTERS
        and text.count("\n") < MOST_MARKDOWN_LINES
        and text.count("|") <= MOST_CELLS
        and _LONG_WORD.search(text) is None
        and _DEEP.search(text) is None
    )


def visible(text: str) -> str:
    """Return `text` with each character that hides or turns others round made a visible sign; the length stays."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _OVERRIDES.sub("\N{REPLACEMENT CHARACTER}", text))


def broken(text: str) -> str:
    """Return `text` with a line feed in every word that is too long to be laid out; a beginning's is a beginning."""
    return _LONG_WORD.sub(lambda found: found[0] + "\n", text)


def shown_plainly(text: str) -> str:
    """Return what is shown of a plain text: its beginning, long words broken, and how much is not shown."""
    text = visible(text.replace("\r\n", "\n").replace("\r", "\n"))
    part = "\n".join(text[:MOST_CHARACTERS].split("\n", MOST_LINES)[:MOST_LINES])
    hidden = len(text) - len(part)
    part = broken(part)
    return f"{part}\n\n[… {hidden:,} more characters, kept but not shown]" if hidden else part
