"""Markdown that grows at its end: what is finished is left as it stands, and only the rest is read anew.

Reading and laying out the whole text again for every new word is quadratic: 70 ms at 30,000 characters.
"""

import re

from PySide6.QtGui import QPalette, QTextCharFormat, QTextCursor, QTextDocument, QTextDocumentFragment

from app.ui.markdown import CodeBlock, colour_code, write_markdown

FREEZE_AFTER = 500
"""Characters that are read anew before what is finished of them is frozen."""
_BREAK = re.compile(r"\n\n(?=#|[^\W\d_])")
"""An empty line before a heading or a paragraph: nothing that stands above it goes on below it, outside of code."""
_DEFINITION = re.compile(r"^ {0,3}\[[^\]\n]+\]:", re.MULTILINE)
_FENCE = re.compile(r"^ {0,3}(```|~~~)", re.MULTILINE)


class GrowingMarkdown:
    """Writes later and later versions of one text into a document.

    What only the whole text can tell, the address of a link that is given at the end, is not known here: a finished
    text with such addresses is to be written with `write_markdown`, as `can_finish` tells.
    """

    def __init__(self, document: QTextDocument) -> None:
        self._document = document
        self.forget()

    def forget(self) -> None:
        """Have the next text written as a whole: the document was changed, or its colours or size are others now."""
        self._frozen = ""
        self._frozen_code: list[CodeBlock] = []
        self._end = 0

    def can_finish(self, text: str) -> bool:
        """Tell whether the finished `text` may be written here too, which spares reading all of it once more."""
        return bool(self._frozen) and text.startswith(self._frozen) and not _DEFINITION.search(text)

    def write(self, text: str, palette: QPalette) -> list[CodeBlock]:
        """Show `text`; return its code blocks."""
        if not text.startswith(self._frozen):
            self.forget()
        rest = text[len(self._frozen) :]
        cut = last_break(rest) if len(rest) > FREEZE_AFTER else 0
        cursor = QTextCursor(self._document)
        cursor.beginEditBlock()
        self._drop_rest()
        finished: list[CodeBlock] = []
        if cut:
            finished = self._append(rest[:cut], palette)
            self._frozen_code += finished
            self._frozen += rest[:cut]
            self._end = self._document.characterCount() - 1
        code = self._append(rest[cut:], palette)
        cursor.endEditBlock()
        for one in (*finished, *code):  # colours belong to the layout, which is there once the edit is over
            colour_code(self._document, one, palette)
        return [*self._frozen_code, *code]

    def _drop_rest(self) -> None:
        if not self._frozen:
            self._document.clear()
            return
        cursor = QTextCursor(self._document)
        cursor.setPosition(self._end)
        cursor.movePosition(QTextCursor.MoveOperation.End, QTextCursor.MoveMode.KeepAnchor)
        cursor.removeSelectedText()

    def _append(self, text: str, palette: QPalette) -> list[CodeBlock]:
        """Write a piece below what stands; return its code blocks."""
        piece = QTextDocument()
        piece.setDefaultFont(self._document.defaultFont())
        found = write_markdown(piece, text, palette, is_first=not self._frozen)
        cursor = QTextCursor(self._document)
        cursor.movePosition(QTextCursor.MoveOperation.End)
        if not self._document.isEmpty():
            cursor.insertBlock(piece.firstBlock().blockFormat(), QTextCharFormat())  # a fragment leaves that alone
        first = cursor.blockNumber()
        cursor.insertFragment(QTextDocumentFragment(piece))
        return [CodeBlock(c.first + first, c.last + first, c.language, c.text) for c in found]


def last_break(text: str) -> int:
    """Return where the last heading or paragraph that begins outside of code begins, 0 where there is none."""
    fences = [fence.start() for fence in _FENCE.finditer(text)]
    for found in reversed(list(_BREAK.finditer(text))):
        if sum(at < found.start() for at in fences) % 2 == 0:
            return found.end()
    return 0
