"""What a model thought before it answered: one line that unfolds."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.chat.reasoning import Parts
from app.ui.controls import SignButton
from app.ui.message_text import MessageText
from app.ui.theme import TIGHT, hairline
from app.viewmodels.panel_state import format_seconds

INDENT = 18


class ReasoningPart(QWidget):
    """A disclosure button and, while it is open, the reasoning as plain text. Hidden where there is none."""

    def __init__(self, message_id: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._reasoning = ""
        self.toggle = SignButton("right", f"reasoning_toggle_{message_id}", "Show the reasoning", text="Reasoning")
        self.toggle.setCheckable(True)
        self.toggle.toggled.connect(self._unfold)
        self.text = MessageText()
        self.text.setObjectName(f"reasoning_text_{message_id}")
        self.text.setAccessibleName("Reasoning")
        self._inside = QWidget()
        row = QHBoxLayout(self._inside)
        row.setContentsMargins(INDENT, 0, 0, 0)
        row.addWidget(self.text)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(TIGHT)
        column.addWidget(self.toggle, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self._inside)
        self._inside.hide()
        self.hide()

    def show_parts(self, parts: Parts, took_s: float | None) -> None:
        """Show the reasoning of a reply, and how long it took where that is known."""
        self._reasoning = parts.reasoning or ""
        self.setVisible(bool(self._reasoning) or parts.is_thinking)
        said = "Reasoning…" if parts.is_thinking else "Reasoning"
        self.toggle.setText(f"{said}  {format_seconds(took_s)}" if took_s else said)
        self._name_toggle()
        self.toggle.updateGeometry()
        if self.toggle.isChecked():
            self.text.show_plain(self._reasoning)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw a line beside the text."""
        if not self._inside.isHidden():
            painter = QPainter(self)
            inside = self._inside.geometry()
            painter.fillRect(8, inside.top(), 2, inside.height(), hairline(self.palette()))
            painter.end()

    def _unfold(self, is_open: bool) -> None:
        if is_open:
            self.text.show_plain(self._reasoning)
        self._inside.setVisible(is_open)
        self._name_toggle()

    def _name_toggle(self) -> None:
        is_open = self.toggle.isChecked()
        self.toggle.set_sign(
            "chevron" if is_open else "right", "Hide the reasoning" if is_open else "Show the reasoning"
        )
        self.toggle.setAccessibleDescription("unfolded" if is_open else "folded")
