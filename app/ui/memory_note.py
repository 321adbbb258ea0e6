"""The note under a reply that the memory budget stopped: the numbers, and three ways to go on."""

from PySide6.QtCore import Signal
from PySide6.QtGui import QColor, QPaintEvent, QPalette, QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QFrame, QVBoxLayout, QWidget

from app.ui.controls import SignButton, rounded
from app.ui.theme import GAP, TIGHT, WIDE, SubtleLabel, TextLabel, mix
from app.viewmodels.memory_notes import MemoryNote


class MemoryNoteView(QFrame):
    """Hidden while there is nothing to say."""

    shorten_asked = Signal()
    int4_asked = Signal()
    budget_asked = Signal()
    again_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("memory_note")
        self._title = TextLabel()
        self._title.setObjectName("memory_note_title")
        self._title.setWordWrap(True)
        self._text = SubtleLabel()
        self._text.setObjectName("memory_note_text")
        self._buttons = {
            "shorten": self._button("shorten", "Shorten…", "Go on in a new chat, or edit a message"),
            "int4": self._button(
                "int4",
                "Switch to int4",
                "Hold this chat in int4 and write the reply again; this stays as a version",
            ),
            "budget": self._button("budget", "Raise Budget…", "Open the settings at the memory budget"),
            "again": self._button("again", "Write Again", "Write the reply again; this stays as a version"),
        }
        self._buttons["shorten"].clicked.connect(self.shorten_asked)
        self._buttons["int4"].clicked.connect(self.int4_asked)
        self._buttons["budget"].clicked.connect(self.budget_asked)
        self._buttons["again"].clicked.connect(self.again_asked)
        self._row = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._row.setContentsMargins(0, TIGHT, 0, 0)
        self._row.setSpacing(GAP)
        for button in self._buttons.values():
            self._row.addWidget(button)
        self._row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(WIDE, GAP, WIDE, GAP)
        column.setSpacing(TIGHT)
        column.addWidget(self._title)
        column.addWidget(self._text)
        column.addLayout(self._row)
        self.setMinimumWidth(1)  # the buttons go below each other where the column is narrow
        self.hide()

    def show_note(self, note: MemoryNote | None) -> None:
        """Show a note, or none."""
        if note is not None:
            self._title.setText(note.title)
            self._text.setText(note.text)
            self.setAccessibleName(f"{note.title} {note.text}")
            for name in ("shorten", "budget"):
                self._buttons[name].setVisible(not note.has_room)
            self._buttons["int4"].setVisible(note.offers_int4)
            self._buttons["again"].setVisible(note.has_room)
            self._turn()
        self.setVisible(note is not None)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Put the buttons beside or below each other."""
        super().resizeEvent(event)
        self._turn()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the background of a notice."""
        base = self.palette().color(QPalette.ColorRole.Base)
        tint = QColor.fromHslF(0.09, 0.85, 0.5)
        rounded(self, mix(base, tint, 0.12), mix(base, tint, 0.5))

    def _button(self, name: str, text: str, tooltip: str) -> SignButton:
        button = SignButton("", f"memory_{name}", tooltip, text=text, framed=True)
        button.setAccessibleDescription(tooltip)
        return button

    def _turn(self) -> None:
        shown = [button.sizeHint().width() for button in self._buttons.values() if not button.isHidden()]
        fits = sum(shown) + GAP * (len(shown) - 1) <= self.width() - 2 * WIDE
        self._row.setDirection(QBoxLayout.Direction.LeftToRight if fits else QBoxLayout.Direction.TopToBottom)
