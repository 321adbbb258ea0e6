"""A line that unfolds to a plain text."""

from PySide6.QtCore import QEvent, QRect, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.ui.controls import SignButton
from app.ui.message_text import MessageText
from app.ui.text_matches import count_plain
from app.ui.theme import TIGHT, hairline, subtle

INDENT = 18


class Disclosure(QWidget):
    """A button and, while it is open, a text that can be selected. `name` begins its controls' object names."""

    def __init__(
        self, name: str, number: str, what: str, parent: QWidget | None = None, *, at_right: bool = False
    ) -> None:
        super().__init__(parent)
        self._content = ""
        self._is_open = False
        self._counted = ("", "", 0)
        """What was counted in which text while it was folded, and how often it occurred."""
        self._what = what
        self.toggle = SignButton("right", f"{name}_toggle_{number}", f"Show {what}", text=what)
        self.toggle.clicked.connect(self._turn)
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
        self._recolour()

    def show_content(self, title: str, content: str) -> None:
        """Name the button, and show `content` where it is open."""
        self._content = content
        self.toggle.setText(title)
        self.toggle.updateGeometry()
        self._name_toggle()
        if self._is_open:
            self.text.show_plain(content)

    # What is found in it, as in MessageText

    @property
    def match_count(self) -> int:
        """How often what is looked for occurs, folded or not."""
        if self._is_open:
            return self.text.match_count
        looked_for = (self._content, self.text.needle)
        if self._counted[:2] != looked_for:
            self._counted = (*looked_for, count_plain(*looked_for))
        return self._counted[2]

    def find_all(self, needle: str) -> None:
        """Mark `needle` wherever it occurs, also once it is unfolded; "" marks nothing."""
        self.text.find_all(needle)

    def show_match(self, index: int | None) -> None:
        """Mark one of the matches as the current one, or none."""
        self.text.show_match(index)

    def unfold_match(self, index: int) -> None:
        """Unfold, so that a match can be seen."""
        if not self._is_open:
            self._turn()

    def match_area(self, index: int) -> QRect:
        """Return where a match stands; where it is folded, that is the button."""
        if not self._is_open:
            return self.toggle.geometry()
        area = self.text.match_area(index)
        return QRect(self.text.viewport().mapTo(self, area.topLeft()), area.size())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw a line beside the text."""
        if not self._inside.isHidden():
            painter = QPainter(self)
            inside = self._inside.geometry()
            painter.fillRect(8, inside.top(), 2, inside.height(), hairline(self.palette()))
            painter.end()

    def changeEvent(self, event: QEvent) -> None:
        """Keep the text in the secondary colour of the palette."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.ParentChange):
            self._recolour()

    def _recolour(self) -> None:
        own = QPalette()
        own.setColor(QPalette.ColorRole.Text, subtle(self.palette()))
        self.text.setPalette(own)

    def _turn(self) -> None:
        self._is_open = not self._is_open
        if self._is_open:
            self.text.show_plain(self._content)
        self._inside.setVisible(self._is_open)
        self._name_toggle()

    def _name_toggle(self) -> None:
        sign, verb, state = ("chevron", "Hide", "unfolded") if self._is_open else ("right", "Show", "folded")
        self.toggle.set_sign(sign, f"{verb} {self._what}")
        self.toggle.setAccessibleDescription(state)
