"""A scroll bar that keeps in the background, for platforms whose own does not."""

import sys

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QAbstractScrollArea, QScrollBar, QStyle, QStyleOptionSlider, QWidget

WIDTH = 10


class QuietScrollBar(QScrollBar):
    """A vertical scroll bar of which only the handle is seen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Vertical, parent)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent, False)

    def sizeHint(self) -> QSize:
        """Return a narrow size."""
        return QSize(WIDTH, super().sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the handle where the style has it, so that it is also grabbed there."""
        option = QStyleOptionSlider()
        self.initStyleOption(option)
        handle = self.style().subControlRect(
            QStyle.ComplexControl.CC_ScrollBar, option, QStyle.SubControl.SC_ScrollBarSlider, self
        )
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        strength = 0.45 if self.isSliderDown() else 0.3 if self.underMouse() else 0.2
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(ink.red(), ink.green(), ink.blue(), round(255 * strength)))
        painter.drawRoundedRect(QRectF(handle).adjusted(2, 1, -2, -1), 3, 3)
        painter.end()


def quieten(area: QAbstractScrollArea) -> None:
    """Give `area` a quiet scroll bar; on a Mac the system's own are quiet already."""
    if sys.platform != "darwin":
        policy = area.verticalScrollBarPolicy()
        area.setVerticalScrollBar(QuietScrollBar(area))
        area.setVerticalScrollBarPolicy(policy)
