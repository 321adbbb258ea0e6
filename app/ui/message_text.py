"""The text of one message: as tall as it is long, selectable, and deaf to the network."""

import math
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QEvent, QRectF, Qt, QUrl
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
from app.ui.growing_markdown import GrowingMarkdown
from app.ui.markdown import CODE_PADDING, CodeBlock, code_background, write_markdown

_PLAIN = Qt.KeyboardModifier.NoModifier
SCROLL_KEYS = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)


class MessageText(QTextBrowser):
    """Shows markdown or plain text; links are announced by `anchorClicked` and never followed here."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._markdown = ""
        self._code: list[CodeBlock] = []
        self._growing = GrowingMarkdown(self.document())
        self._copy_buttons: list[SignButton] = []
        self.setOpenLinks(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.document().setDocumentMargin(0)
        self.viewport().setAutoFillBackground(False)

    @property
    def code_blocks(self) -> tuple[CodeBlock, ...]:
        """The blocks of code in the text."""
        return tuple(self._code)

    def show_markdown(self, text: str, *, is_growing: bool = False) -> None:
        """Show `text` as markdown; a selection stays where it was. While it grows only its end is read anew."""
        self._markdown = text
        cursor = self.textCursor()
        anchor, position = cursor.anchor(), cursor.position()
        if is_growing or self._growing.can_finish(text):
            self._code = self._growing.write(text, self.palette())
        else:
            self._growing.forget()
            self._code = write_markdown(self.document(), text, self.palette())
        if anchor != position:
            end = self.document().characterCount() - 1
            kept = self.textCursor()
            kept.setPosition(min(anchor, end))
            kept.setPosition(min(position, end), QTextCursor.MoveMode.KeepAnchor)
            self.setTextCursor(kept)
        self._fit()

    def show_plain(self, text: str) -> None:
        """Show `text` as it is."""
        self._markdown = ""
        self._code = []
        self.setPlainText(text)
        self._fit()

    def natural_width(self) -> int:
        """Return the width at which no line of a plain text is broken."""
        metrics = self.fontMetrics()
        return max((metrics.horizontalAdvance(line) for line in self.toPlainText().splitlines()), default=0) + 4

    def loadResource(self, kind: int, name: QUrl | str) -> Any:
        """Fetch nothing: a model's answer must not reach into the network or the disk."""
        return None

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Grow and shrink with the text."""
        super().resizeEvent(event)
        self._fit()

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
            self._growing.forget()
            self.show_markdown(self._markdown)
        elif event.type() == QEvent.Type.FontChange:
            self._fit()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the backgrounds of code, then the text."""
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(code_background(self.palette()))
        for area in map(self._area_of, self._code):
            if area.intersects(QRectF(event.rect())):
                painter.drawRoundedRect(area, RADIUS, RADIUS)
        painter.end()
        super().paintEvent(event)

    def _fit(self) -> None:
        height = math.ceil(self.document().size().height()) + 1
        if height != self.height():
            self.setFixedHeight(height)
        self._place_copy_buttons()

    def _area_of(self, code: CodeBlock) -> QRectF:
        document, layout = self.document(), self.document().documentLayout()
        first = layout.blockBoundingRect(document.findBlockByNumber(code.first))
        last = layout.blockBoundingRect(document.findBlockByNumber(code.last))
        top, bottom = first.top() - CODE_PADDING, last.bottom() + CODE_PADDING
        return QRectF(0, top, self.viewport().width(), bottom - top)

    def _place_copy_buttons(self) -> None:
        while len(self._copy_buttons) < len(self._code):
            name = f"{self.objectName()}_copy_code_{len(self._copy_buttons)}"
            button = SignButton("copy", name, "Copy this code", self.viewport())
            button.clicked.connect(self._copier(len(self._copy_buttons)))
            self._copy_buttons.append(button)
        for i, button in enumerate(self._copy_buttons):
            button.setVisible(i < len(self._code))
            if i < len(self._code):
                area = self._area_of(self._code[i])
                button.resize(button.sizeHint())
                button.move(round(area.right()) - button.width() - 3, round(area.top()) + 3)

    def _copier(self, index: int) -> Callable[[], None]:
        return lambda: QGuiApplication.clipboard().setText(self._code[index].text)
