"""Where the person writes: a field that grows, one button that sends or stops, and a line that says what goes on."""

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QMimeData, Qt, Signal
from PySide6.QtGui import QKeyEvent, QResizeEvent, QTextCursor
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QSizePolicy, QVBoxLayout, QWidget

from app.ui.attachment_chips import AttachmentChips
from app.ui.controls import Field, SignButton
from app.ui.file_drop import local_files
from app.ui.scroll_bar import quieten
from app.ui.theme import GAP, TIGHT, WIDE, SubtleLabel
from app.ui.transcript import COLUMN_WIDTH
from app.viewmodels.attachments import Chip

LINES_SHOWN = 8
_MODIFIER = Qt.KeyboardModifier
_BREAKS = _MODIFIER.ShiftModifier | _MODIFIER.AltModifier | _MODIFIER.MetaModifier
"""With these Return breaks the line, as in every field of a Mac: there Alt is Option, Meta is Control, Control Cmd."""
_HINT = "Return sends, Shift+Return starts a new line."
_EDIT_HINT = "Editing a message: sending goes on from there, and what followed is kept beside it. Esc gives up."


class MessageEdit(QPlainTextEdit):
    """A plain text field, one to eight lines tall."""

    send_asked = Signal()
    files_given = Signal(object)
    """Paths of files that were dropped or pasted."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("message_edit")
        self.setAccessibleName("Message")
        self.setPlaceholderText("Message Nibble")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.document().setDocumentMargin(2)
        self.viewport().setAutoFillBackground(False)
        quieten(self)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)
        self._fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Send with Return, with or without Cmd; with any other key beside it, it starts a new line."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if event.modifiers() & _BREAKS:
                self.insertPlainText("\n")
                self.ensureCursorVisible()
            else:
                self.send_asked.emit()
        else:
            super().keyPressEvent(event)

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        """Take files as well as text."""
        return bool(local_files(source)) or super().canInsertFromMimeData(source)

    def insertFromMimeData(self, source: QMimeData) -> None:
        """Attach files rather than write where they lie."""
        if paths := local_files(source):
            self.files_given.emit(paths)
        else:
            super().insertFromMimeData(source)

    def changeEvent(self, event: QEvent) -> None:
        """Grow and shrink with the size of the text."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit()

    def _fit(self) -> None:
        lines = max(1, min(LINES_SHOWN, round(self.document().size().height())))
        self.setFixedHeight(lines * self.fontMetrics().lineSpacing() + 8)
        policy = Qt.ScrollBarPolicy
        tall = self.document().size().height() > LINES_SHOWN
        self.setVerticalScrollBarPolicy(policy.ScrollBarAsNeeded if tall else policy.ScrollBarAlwaysOff)


class StatusLine(QWidget):
    """Says what goes on. Its words change often; the window is laid out anew only where they take another height."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._label = SubtleLabel(parent=self, factor=0.92)
        self._label.setObjectName("activity")
        self._label.setAccessibleName("State of the chat")

    @property
    def text(self) -> str:
        """What it says."""
        return self._label.text()

    def show_text(self, text: str) -> None:
        """Say something else."""
        if text != self._label.text():
            self._label.setText(text)
            self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Break the line where the width ends."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        """Grow and shrink with the size of the text."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit()

    def _fit(self) -> None:
        height = self._label.heightForWidth(self.width())
        self._label.setGeometry(0, 0, self.width(), height)
        if height != self.height():
            self.setFixedHeight(height)


class Composer(QWidget):
    """Takes a message; knows whether it is a new one or another version of one."""

    sent = Signal(str, object)
    """Text, and the id of the message of which it is another version, or None."""
    stop_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("composer")
        self.setAccessibleName("Composer")
        self._can_send = False
        self._can_stop = False
        self._edited_id: int | None = None
        self._draft = ""
        self._activity = ""
        self.edit = MessageEdit()
        self.edit.send_asked.connect(self.send)
        self.edit.textChanged.connect(self._show)
        self._button = SignButton("send", "send", "Send", solid=True)
        self._button.clicked.connect(self._press)
        self.attachments = AttachmentChips()
        self._status = StatusLine()

        field = Field()
        field.watch(self.edit)
        stack = QVBoxLayout(field)
        stack.setContentsMargins(12, 7, 7, 7)
        stack.setSpacing(0)
        stack.addWidget(self.attachments)
        inside = QHBoxLayout()
        stack.addLayout(inside)
        inside.addWidget(self.edit, 1, Qt.AlignmentFlag.AlignVCenter)
        inside.addWidget(self._button, 0, Qt.AlignmentFlag.AlignBottom)
        column = QWidget()
        column.setMaximumWidth(COLUMN_WIDTH)
        rows = QVBoxLayout(column)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(TIGHT)
        rows.addWidget(field)
        rows.addWidget(self._status)
        outer = QHBoxLayout(self)
        outer.setContentsMargins(WIDE + GAP, TIGHT, WIDE + GAP, GAP)
        outer.addStretch(1)
        outer.addWidget(column, 100)
        outer.addStretch(1)
        self._show()

    @property
    def text(self) -> str:
        """What is written."""
        return self.edit.toPlainText()

    @property
    def is_editing(self) -> bool:
        """Whether sending makes another version of a message."""
        return self._edited_id is not None

    @property
    def status_text(self) -> str:
        """The line below the field."""
        return self._status.text

    @property
    def has_message(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.text.strip()) or not self.attachments.isHidden()

    def show_attachments(self, chips: Sequence[Chip]) -> None:
        """Show the files that go with the message."""
        self.attachments.show_chips(chips)
        self._show()

    def set_abilities(self, can_send: bool, can_stop: bool) -> None:
        """Say what the button may do now."""
        self._can_send, self._can_stop = can_send, can_stop
        self._show()

    def set_activity(self, activity: str) -> None:
        """Say what goes on; "" shows how to use the field."""
        self._activity = activity
        self._show()

    def write(self, text: str) -> None:
        """Put a text into the field."""
        self.edit.setPlainText(text)
        self.edit.moveCursor(QTextCursor.MoveOperation.End)
        self.edit.setFocus()

    def edit_message(self, message_id: int, text: str) -> None:
        """Take a message up again; the draft comes back when that is given up."""
        if not self.is_editing:
            self._draft = self.text
        self._edited_id = message_id
        self.write(text)

    def leave_editing(self) -> None:
        """Go back to the draft."""
        if self.is_editing:
            self._edited_id = None
            self.write(self._draft)

    def send(self) -> None:
        """Send what is written, where that can be done now."""
        if self._can_send and self.has_message:
            text, edited_id = self.text, self._edited_id
            self._edited_id = None
            self.edit.clear()
            self.sent.emit(text, edited_id)

    def escape(self) -> None:
        """Stop the reply, or leave editing."""
        if self._can_stop:
            self.stop_asked.emit()
        else:
            self.leave_editing()

    def _press(self) -> None:
        if self._can_stop:
            self.stop_asked.emit()
        else:
            self.send()

    def _show(self) -> None:
        if self._can_stop:
            self._button.set_sign("stop", "Stop (Esc)")
        else:
            self._button.set_sign("send", "Send (Return)")
        self._button.setEnabled(self._can_stop or (self._can_send and self.has_message))
        self._status.show_text(self._activity or (_EDIT_HINT if self.is_editing else _HINT))
