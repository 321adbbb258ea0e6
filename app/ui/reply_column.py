"""One reply of a comparison: its heading, its text as it comes, and a mark where it leaves the other."""

from PySide6.QtCore import QEvent
from PySide6.QtGui import QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QPlainTextEdit, QTextEdit, QVBoxLayout, QWidget

from app.chat.options import CacheMode
from app.ui.shown_text import broken
from app.ui.theme import TIGHT, SubtleLabel, TextLabel, marked, scaled_font


class ReplyColumn(QWidget):
    """Shows plain text that grows; scrolls along only while its end is in view."""

    def __init__(self, mode: CacheMode, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(f"compare_{mode}")
        self.setAccessibleName(f"Reply with an {mode} cache")
        heading = TextLabel(f"{mode}")
        heading.setFont(scaled_font(heading.font(), 1.15, bold=True))
        self._caption = SubtleLabel(factor=0.92)
        self._caption.setObjectName(f"compare_{mode}_caption")
        self._edit = QPlainTextEdit()
        self._edit.setObjectName(f"compare_{mode}_text")
        self._edit.setAccessibleName(f"Text of the {mode} reply")
        self._edit.setReadOnly(True)
        self._edit.setTabChangesFocus(True)
        self._edit.setMinimumHeight(6 * self._edit.fontMetrics().lineSpacing())
        self._text = self._shown = ""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(TIGHT)
        column.addWidget(heading)
        column.addWidget(self._caption)
        column.addWidget(self._edit, 1)

    def clear(self) -> None:
        """Make ready for the next run."""
        self._edit.setExtraSelections([])
        self._edit.setAccessibleDescription("")
        self._edit.clear()
        self._text = self._shown = ""
        self.set_caption("")

    def set_caption(self, text: str) -> None:
        """Show a line under the heading."""
        self._caption.setText(text)

    def set_text(self, text: str) -> None:
        """Show the reply so far; what is there already is left alone."""
        bar = self._edit.verticalScrollBar()
        follow = bar.value() == bar.maximum()
        shown = broken(text)
        if shown.startswith(self._shown):
            cursor = QTextCursor(self._edit.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            cursor.insertText(shown[len(self._shown) :])
        else:
            self._edit.setPlainText(shown)
        self._text, self._shown = text, shown
        if follow:
            bar.setValue(bar.maximum())

    def text(self) -> str:
        """Return the reply as shown."""
        return self._edit.toPlainText()

    def mark(self, position: int, description: str) -> None:
        """Underline the word at `position` (in characters), or the last character where the text ends there."""
        cursor = QTextCursor(self._edit.document())
        cursor.setPosition(_utf16_length(broken(self._text[:position])))
        cursor.movePosition(QTextCursor.MoveOperation.EndOfWord, QTextCursor.MoveMode.KeepAnchor)
        if not cursor.hasSelection():
            cursor.movePosition(QTextCursor.MoveOperation.NextCharacter, QTextCursor.MoveMode.KeepAnchor)
        if not cursor.hasSelection():
            cursor.movePosition(QTextCursor.MoveOperation.PreviousCharacter, QTextCursor.MoveMode.KeepAnchor)
        self._underline(cursor)
        self._edit.setAccessibleDescription(description)
        scroll_to = QTextCursor(cursor)
        scroll_to.clearSelection()
        self._edit.setTextCursor(scroll_to)
        self._edit.ensureCursorVisible()

    def changeEvent(self, event: QEvent) -> None:
        """Draw the mark in the colours of the new palette."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            for selection in self._edit.extraSelections():
                self._underline(selection.cursor)

    def marked_text(self) -> str:
        """Return the underlined text; "" where nothing is marked."""
        selections = self._edit.extraSelections()
        return selections[0].cursor.selectedText() if selections else ""

    def _underline(self, cursor: QTextCursor) -> None:
        look = QTextCharFormat()
        look.setBackground(marked(self.palette()))
        look.setFontUnderline(True)
        selection = QTextEdit.ExtraSelection()
        selection.cursor, selection.format = cursor, look
        self._edit.setExtraSelections([selection])


def _utf16_length(text: str) -> int:
    """Return the length as QTextDocument counts it."""
    return len(text.replace("\r\n", "\n").encode("utf-16-le")) // 2
