"""A rounded field for a search, with a magnifying glass before the text."""

from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QWidget

from app.ui.controls import RADIUS, SIGN_SIZE, Field, paint_sign
from app.ui.theme import GAP, TIGHT, subtle


class SearchField(Field):
    """Holds the line edit, which is named and connected by whoever shows it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, radius=RADIUS)
        self.edit = QLineEdit()
        self.edit.setFrame(False)
        self.edit.setAttribute(Qt.WidgetAttribute.WA_MacShowFocusRect, False)  # the frame around it shows the focus
        self.edit.setPlaceholderText("Search")
        self.edit.setClearButtonEnabled(True)
        self.watch(self.edit)
        row = QHBoxLayout(self)
        row.setContentsMargins(GAP + SIGN_SIZE + TIGHT, TIGHT, TIGHT, TIGHT)
        row.addWidget(self.edit)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the frame and the glass."""
        super().paintEvent(event)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        paint_sign(painter, "search", subtle(self.palette()), QPointF(GAP, (self.height() - SIGN_SIZE) / 2))
        painter.end()
