"""A line that unfolds to a plain text."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.ui.controls import SignButton
from app.ui.message_text import MessageText
from app.ui.theme import TIGHT, hairline

INDENT = 18


class Disclosure(QWidget):
    """A button and, while it is open, a text that can be selected. `name` begins its controls' object names."""

    def __init__(
        self, name: str, number: str, what: str, parent: QWidget | None = None, *, at_right: bool = False
    ) -> None:
        super().__init__(parent)
        self._content = ""
        self._what = what
        self.toggle = SignButton("right", f"{name}_toggle_{number}", f"Show {what}", text=what)
        self.toggle.setCheckable(True)
        self.toggle.toggled.connect(self._unfold)
        self.text = MessageText()
        self.text.setObjectName(f"{name}_text_{number}")
        self.text.setAccessibleName(what)
        self._inside = QWidget()
        row = QHBoxLayout(self._inside)
        row.setContentsMargins(INDENT, 0, 0, 0)
        row.addWidget(self.text)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(TIGHT)
        side = Qt.AlignmentFlag.AlignRight if at_right else Qt.AlignmentFlag.AlignLeft
        column.addWidget(self.toggle, 0, side)
        column.addWidget(self._inside)
        self._inside.hide()

    def show_content(self, title: str, content: str) -> None:
        """Name the button, and show `content` where it is open."""
        self._content = content
        self.toggle.setText(title)
        self.toggle.updateGeometry()
        self._name_toggle()
        if self.toggle.isChecked():
            self.text.show_plain(content)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw a line beside the text."""
        if not self._inside.isHidden():
            painter = QPainter(self)
            inside = self._inside.geometry()
            painter.fillRect(8, inside.top(), 2, inside.height(), hairline(self.palette()))
            painter.end()

    def _unfold(self, is_open: bool) -> None:
        if is_open:
            self.text.show_plain(self._content)
        self._inside.setVisible(is_open)
        self._name_toggle()

    def _name_toggle(self) -> None:
        is_open = self.toggle.isChecked()
        verb = "Hide" if is_open else "Show"
        self.toggle.set_sign("chevron" if is_open else "right", f"{verb} {self._what}")
        self.toggle.setAccessibleDescription("unfolded" if is_open else "folded")
