"""A small line of recent values, with the same in words."""

from PySide6.QtCore import QPointF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.ui.picture import Picture
from app.ui.theme import accent, hairline, mix

MARGIN = 4.0


class Sparkline(Picture):
    """Draws values from left to right over a base line at zero, the newest as a dot."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._values: tuple[float, ...] = ()

    def set_values(self, values: tuple[float, ...], text: str) -> None:
        """Show `values`, oldest first; `text` says them in words, for a pointer and for VoiceOver."""
        self.setToolTip(text)
        self.setAccessibleDescription(text)
        if values != self._values:
            self._values = values
            self.update()

    def values(self) -> tuple[float, ...]:
        """Return what is shown."""
        return self._values

    def sizeHint(self) -> QSize:
        """Return a height of about two lines of text."""
        return QSize(120, 2 * self.fontMetrics().height())

    def minimumSizeHint(self) -> QSize:
        """Return the least width at which a course can be seen."""
        return QSize(40, 2 * self.fontMetrics().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the base line, the area under the values, the line and its last point."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        floor = self.height() - MARGIN
        painter.setPen(QPen(hairline(self.palette()), 1))
        painter.drawLine(QPointF(MARGIN, floor), QPointF(self.width() - MARGIN, floor))
        if not self._values:
            return
        line = self._points(floor)
        colour = accent(self.palette())
        if len(line) > 1:
            area = QPolygonF([QPointF(line[0].x(), floor), *line, QPointF(line[-1].x(), floor)])
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(mix(self.palette().window().color(), colour, 0.18))
            painter.drawPolygon(area)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(colour, 1.5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin))
            painter.drawPolyline(QPolygonF(line))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        painter.drawEllipse(line[-1], 2.5, 2.5)

    def _points(self, floor: float) -> list[QPointF]:
        top = max(self._values) or 1.0
        width, height = self.width() - 2 * MARGIN, floor - MARGIN
        step = width / max(1, len(self._values) - 1)
        left = MARGIN if len(self._values) > 1 else MARGIN + width
        return [QPointF(left + i * step, floor - height * max(0.0, v) / top) for i, v in enumerate(self._values)]
