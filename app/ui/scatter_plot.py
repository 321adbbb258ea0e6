"""Marks over two axes: int4 as filled circles, fp16 as open squares, so that shape tells them apart."""

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QHelpEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from app.chat.options import CacheMode
from app.ui.picture import Picture
from app.ui.theme import GAP, TIGHT, accent, figure_font, hairline, mix, scaled_font, subtle
from app.viewmodels.plain_tooltip import plain_tooltip
from app.viewmodels.stats_plots import Mark, Plot

MARK_RADIUS = 4.0
NEAR = 10.0
"""How near to a mark a pointer is on it, in device-independent pixels."""


class ScatterPlot(Picture):
    """Shows one Plot at a time. A tooltip says the mark under the pointer, or all of it in words."""

    def __init__(self, plot: Plot, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setFont(figure_font(scaled_font(self.font(), 0.9)))
        self._plot = plot
        self.set_plot(plot)

    def set_plot(self, plot: Plot) -> None:
        """Show `plot`."""
        self._plot = plot
        self.setAccessibleName(f"{plot.title} against context length")
        self.setAccessibleDescription(plot.text)
        self.update()

    def plot(self) -> Plot:
        """Return what is shown."""
        return self._plot

    def text_at(self, place: QPointF) -> str:
        """Return the words of the mark near `place`, else those of the whole plot."""
        frame = self._frame()
        near = [
            (distance, mark.text)
            for series in self._plot.series
            for mark in series.marks
            if (distance := (_placed(mark, frame) - place).manhattanLength()) <= NEAR
        ]
        return min(near)[1] if near else self._plot.text

    def sizeHint(self) -> QSize:
        """Return a size at which the axes have room for their numbers."""
        return QSize(420, 240)

    def minimumSizeHint(self) -> QSize:
        """Return the least size at which marks can be told apart."""
        return QSize(240, 150)

    def event(self, event: QEvent) -> bool:
        """Answer a pointer that rests."""
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            QToolTip.showText(event.globalPos(), plain_tooltip(self.text_at(QPointF(event.pos()))), self)
            return True
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw title and legend, the grid with its numbers, and the marks."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        frame = self._frame()
        self._draw_head(painter, frame)
        self._draw_axes(painter, frame)
        for series in self._plot.series:
            for mark in series.marks:
                self._draw_mark(painter, _placed(mark, frame), series.mode)
        if not self._plot.series:
            painter.setPen(subtle(self.palette()))
            painter.drawText(frame, Qt.AlignmentFlag.AlignCenter, "Nothing measured yet")

    def _frame(self) -> QRectF:
        height = self.fontMetrics().height()
        numbers = max(self.fontMetrics().horizontalAdvance(text) for _, text in self._plot.y.ticks)
        left, right = numbers + 2 * GAP, 2 * GAP
        return QRectF(self.rect()).adjusted(left, height + 2 * GAP, -right, -2 * height - GAP - TIGHT)

    def _draw_head(self, painter: QPainter, frame: QRectF) -> None:
        height = self.fontMetrics().height()
        head = QRectF(TIGHT, TIGHT / 2, self.width() - 2 * TIGHT, height)
        painter.setPen(self.palette().windowText().color())
        painter.setFont(scaled_font(self.font(), 1.0, bold=True))
        painter.drawText(head, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, self._plot.y.title)
        painter.setFont(self.font())
        right = frame.right()
        for series in reversed(self._plot.series):
            name = series.mode.value
            right -= self.fontMetrics().horizontalAdvance(name)
            painter.setPen(self.palette().windowText().color())
            place = QRectF(right, head.top(), frame.right(), height)
            painter.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, name)
            right -= MARK_RADIUS + TIGHT + 2
            self._draw_mark(painter, QPointF(right, head.center().y()), series.mode)
            right -= MARK_RADIUS + 2 * GAP

    def _draw_axes(self, painter: QPainter, frame: QRectF) -> None:
        height = self.fontMetrics().height()
        for place, text in self._plot.y.ticks:
            y = frame.bottom() - place * frame.height()
            painter.setPen(QPen(hairline(self.palette()), 1))
            painter.drawLine(QPointF(frame.left(), y), QPointF(frame.right(), y))
            painter.setPen(subtle(self.palette()))
            numbers = QRectF(0, y - height / 2, frame.left() - GAP, height)
            painter.drawText(numbers, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, text)
        for place, text in self._plot.x.ticks:
            x = frame.left() + place * frame.width()
            width = self.fontMetrics().horizontalAdvance(text)
            at = min(x - width / 2, self.width() - width - 1.0)
            painter.drawText(QRectF(at, frame.bottom() + TIGHT, width + 2, height), Qt.AlignmentFlag.AlignLeft, text)
        below = QRectF(0, self.height() - height - TIGHT / 2, self.width(), height)
        title = self.fontMetrics().elidedText(self._plot.x.title, Qt.TextElideMode.ElideRight, self.width())
        painter.drawText(below, Qt.AlignmentFlag.AlignCenter, title)

    def _draw_mark(self, painter: QPainter, centre: QPointF, mode: CacheMode) -> None:
        colour = accent(self.palette())
        if mode is CacheMode.INT4:
            painter.setPen(QPen(self.palette().window().color(), 1))
            painter.setBrush(colour)
            painter.drawEllipse(centre, MARK_RADIUS, MARK_RADIUS)
        else:
            painter.setPen(QPen(mix(self.palette().windowText().color(), colour, 0.2), 1.6))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            side = 2 * MARK_RADIUS - 1
            painter.drawRect(QRectF(centre.x() - side / 2, centre.y() - side / 2, side, side))


def _placed(mark: Mark, frame: QRectF) -> QPointF:
    return QPointF(frame.left() + mark.x * frame.width(), frame.bottom() - mark.y * frame.height())
