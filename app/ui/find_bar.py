"""Find in the open chat: a field, how many places there are, and the way from one to the next."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent, QPaintEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLineEdit, QWidget

from app.ui.controls import SignButton, rounded
from app.ui.theme import GAP, TIGHT, SubtleLabel, hairline


class FindEdit(QLineEdit):
    """A line in which Return goes to the next place, with Shift to the one before."""

    moved = Signal(int)
    """1 for the next place, -1 for the one before."""

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Take Return, with or without Shift."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.moved.emit(-1 if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else 1)
        else:
            super().keyPressEvent(event)


class FindBar(QFrame):
    """Asks what to find and shows what was found; hidden until it is needed."""

    searched = Signal(str)
    moved = Signal(int)
    """As in FindEdit."""
    closed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("find_bar")
        self.setAccessibleName("Find in this chat")
        self.edit = FindEdit()
        self.edit.setObjectName("find_edit")
        self.edit.setAccessibleName("Find in this chat")
        self.edit.setPlaceholderText("Find in this chat")
        self.edit.setFrame(False)
        self.edit.setAttribute(Qt.WidgetAttribute.WA_MacShowFocusRect, False)
        self.edit.textChanged.connect(self.searched)
        self.edit.moved.connect(self.moved)
        self._count = SubtleLabel(factor=0.92)
        self._count.setObjectName("find_count")
        self._count.setWordWrap(False)
        self._previous = SignButton("up", "find_previous", "Previous place (Shift+Return)")
        self._previous.clicked.connect(lambda: self.moved.emit(-1))
        self._next = SignButton("chevron", "find_next", "Next place (Return)")
        self._next.clicked.connect(lambda: self.moved.emit(1))
        close = SignButton("close", "find_close", "Close (Esc)")
        close.clicked.connect(self.closed)
        row = QHBoxLayout(self)
        row.setContentsMargins(GAP, TIGHT, TIGHT, TIGHT)
        row.setSpacing(TIGHT)
        row.addWidget(self.edit, 1)
        for control in (self._count, self._previous, self._next, close):
            row.addWidget(control)
        self.show_count("", can_move=False)
        self.hide()

    @property
    def count_text(self) -> str:
        """What stands beside the field."""
        return self._count.text()

    def show_count(self, text: str, *, can_move: bool) -> None:
        """Say which place of how many is shown."""
        self._count.setText(text)
        self._previous.setEnabled(can_move)
        self._next.setEnabled(can_move)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the outline."""
        rounded(self, self.edit.palette().base().color(), hairline(self.palette()))
