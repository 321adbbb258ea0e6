"""The text of one message: as tall as it is long, selectable, and deaf to the network."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QEvent, QRect, QRectF, Qt, QUrl
from PySide6.QtGui import (
    QGuiApplication,
    QKeyEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QTextCursor,
    QWheelEvent,
)
from PySide6.QtWidgets import QFrame, QSizePolicy, QTextBrowser, QTextEdit, QWidget

from app.ui.controls import RADIUS, SignButton
from app.ui.markdown import CODE_PADDING, CodeBlock, append_markdown, code_background, cut_markdown, write_markdown
from app.ui.markdown_blocks import has_definitions, settled_length
from app.ui.shown_text import is_markdown_size, shown_plainly, visible
from app.ui.text_matches import Match, marks, matches_in


@dataclass(frozen=True, slots=True)
class _Settled:
    """The beginning of a growing text that is not written again: where it ends in the document, and its code."""

    text: str
    end: int
    code: tuple[CodeBlock, ...]


_NOTHING = _Settled("", 0, ())

_PLAIN = Qt.KeyboardModifier.NoModifier
SCROLL_KEYS = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)


class MessageText(QTextBrowser):
    """Shows markdown or plain text; links are announced by `anchorClicked` and never followed here."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._markdown = ""
        self._code: list[CodeBlock] = []
        self._settled = _NOTHING
        self._needle = ""
        self._matches: list[Match] = []
        self._shown_match: int | None = None
        self._areas: list[QRectF] = []
        self._copy_buttons: list[SignButton] = []
        self.setOpenLinks(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.document().setDocumentMargin(0)
        self.document().setUndoRedoEnabled(False)
        self.viewport().setAutoFillBackground(False)

    @property
    def code_blocks(self) -> tuple[CodeBlock, ...]:
        """The blocks of code in the text."""
        return tuple(self._code)

    def show_markdown(self, text: str, *, is_growing: bool = False) -> None:
        """Show `text` as markdown, or plainly where that would take too long; a selection stays where it was.

        Of a text that `is_growing` only what is not settled yet is read again, so that a long one costs no more than a
        short one.
        """
        self._markdown = text = visible(text)
        cursor = self.textCursor()
        anchor, position = cursor.anchor(), cursor.position()
        stays = 0
        if not is_markdown_size(text):
            self._settled = _NOTHING
            self._code = []
            self.setPlainText(shown_plainly(text))
        elif is_growing or (self._settled.text and not has_definitions(text)):
            stays = self._grow(text)
        else:
            self._settled = _NOTHING
            self._code = write_markdown(self.document(), text, self.palette())
        if anchor != position:
            end = self.document().characterCount() - 1
            kept = self.textCursor()
            kept.setPosition(min(anchor, end))
            kept.setPosition(min(position, end), QTextCursor.MoveMode.KeepAnchor)
            self.setTextCursor(kept)
        self._fit(stays)
        self._find_again()

    def show_plain(self, text: str) -> None:
        """Show `text` as it is; of a very long one the beginning."""
        self._markdown = ""
        self._settled = _NOTHING
        self._code = []
        self.setPlainText(shown_plainly(text))
        self._fit()
        self._find_again()

    @property
    def needle(self) -> str:
        """What is marked wherever it occurs; "" for nothing."""
        return self._needle

    @property
    def matches(self) -> tuple[Match, ...]:
        """Where it occurs."""
        return tuple(self._matches)

    def find_all(self, needle: str) -> None:
        """Mark `needle` wherever it occurs, also as the text changes; "" marks nothing."""
        if needle != self._needle:
            self._needle = needle
            self._shown_match = None
            self._find_again()

    def show_match(self, index: int | None) -> None:
        """Mark one of the matches as the current one, or none."""
        if index != self._shown_match:
            self._shown_match = index
            self._mark()

    @property
    def match_count(self) -> int:
        """How often it occurs."""
        return len(self._matches)

    def unfold_match(self, index: int) -> None:
        """Do nothing: all of this text is in sight."""

    def match_area(self, index: int) -> QRect:
        """Return where a match stands."""
        cursor = QTextCursor(self.document())
        cursor.setPosition(self._matches[index].end)
        return self.cursorRect(cursor)

    def natural_width(self) -> int:
        """Return the width at which no line of a plain text is broken."""
        metrics = self.fontMetrics()
        return max((metrics.horizontalAdvance(line) for line in self.toPlainText().splitlines()), default=0) + 4

    def loadResource(self, kind: int, name: QUrl | str) -> Any:
        """Fetch nothing: a model's answer must not reach into the network or the disk."""
        return None

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Grow and shrink with the text."""
        # Qt lays the whole text out anew at every resize; another height alone, as while a text grows, asks for none.
        if event.size().width() != event.oldSize().width():
            super().resizeEvent(event)
            self._fit()
        self.verticalScrollBar().setRange(0, 0)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave scrolling to the transcript."""
        event.ignore()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Leave the keys that scroll to the transcript, unless they select text."""
        if event.key() in SCROLL_KEYS and event.modifiers() in (_PLAIN, _PLAIN | Qt.KeyboardModifier.KeypadModifier):
            event.ignore()
        else:
            super().keyPressEvent(event)

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Go from link to link; but Tab on a button inside goes on, and does not turn to a link out of sight."""
        if self.hasFocus():
            return super().focusNextPrevChild(forward)
        return QTextEdit.focusNextPrevChild(self, forward)

    def changeEvent(self, event: QEvent) -> None:
        """Draw anew in the colours of another palette, or in another size."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange) and self._markdown:
            self._settled = _NOTHING
            self.show_markdown(self._markdown)
        elif event.type() == QEvent.Type.FontChange:
            self._fit()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the backgrounds of code, then the text."""
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(code_background(self.palette()))
        for area in self._areas:
            if area.intersects(QRectF(event.rect())):
                painter.drawRoundedRect(area, RADIUS, RADIUS)
        painter.end()
        super().paintEvent(event)

    def _grow(self, text: str) -> int:
        """Write what is not settled; return how many code blocks from the first on stay where they were."""
        document, palette = self.document(), self.palette()
        settled = self._settled if text.startswith(self._settled.text) else _NOTHING
        stays = len(settled.code)
        if settled.text:
            cut_markdown(document, settled.end)
        rest = text[len(settled.text) :]
        if length := settled_length(rest):
            write = append_markdown if settled.text else write_markdown
            code = (*settled.code, *write(document, rest[:length], palette))
            settled = _Settled(settled.text + rest[:length], document.characterCount() - 1, code)
            rest = rest[length:]
        self._settled = settled
        write = append_markdown if settled.text else write_markdown
        self._code = [*settled.code, *write(document, rest, palette)]
        return stays

    def _find_again(self) -> None:
        if self._needle or self._matches:
            self._matches = matches_in(self.document(), self._needle)
            self._mark()

    def _mark(self) -> None:
        self.setExtraSelections(marks(self.document(), self._matches, self._shown_match, self.palette()))

    def _fit(self, stays: int = 0) -> None:
        """Take the height of the text, and find the places of its code; the first `stays` blocks are where they were.

        Where a block is takes longer to find the more text there is.
        """
        height = math.ceil(self.document().size().height()) + 1
        if height != self.height():
            self.setFixedHeight(height)
        self._areas = [*self._areas[:stays], *map(self._area_of, self._code[stays:])]
        self._place_copy_buttons(stays)

    def _area_of(self, code: CodeBlock) -> QRectF:
        document, layout = self.document(), self.document().documentLayout()
        first = layout.blockBoundingRect(document.findBlockByNumber(code.first))
        last = layout.blockBoundingRect(document.findBlockByNumber(code.last))
        top, bottom = first.top() - CODE_PADDING, last.bottom() + CODE_PADDING
        return QRectF(0, top, self.viewport().width(), bottom - top)

    def _place_copy_buttons(self, stays: int) -> None:
        while len(self._copy_buttons) < len(self._areas):
            name = f"{self.objectName()}_copy_code_{len(self._copy_buttons)}"
            button = SignButton("copy", name, "Copy this code", self.viewport())
            button.clicked.connect(self._copier(len(self._copy_buttons)))
            self._copy_buttons.append(button)
        for button, area in zip(self._copy_buttons[stays:], self._areas[stays:], strict=False):
            button.resize(button.sizeHint())
            button.move(round(area.right()) - button.width() - 3, round(area.top()) + 3)
            button.show()
        for button in self._copy_buttons[len(self._areas) :]:
            button.hide()

    def _copier(self, index: int) -> Callable[[], None]:
        return lambda: QGuiApplication.clipboard().setText(self._code[index].text)
