"""Two lines that grow with the conversation: this cache, solid, and the same in fp16, dashed."""

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.chat.options import CacheMode
from app.ui.picture import Picture
from app.ui.theme import TIGHT, accent, figure_font, hairline, mix, scaled_font, subtle
from app.viewmodels.cache_course import Course, Point

LINES = 7
"""Height, in lines of text."""


class GrowthPlot(Picture):
    """Shows one Course at a time. Dash and words tell the lines apart, not colour alone."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFont(figure_font(scaled_font(self.font(), 0.85)))
        self._course = Course()
        self.set_course(self._course)

    def set_course(self, course: Course) -> None:
        """Show `course`; its words are for a pointer and for VoiceOver."""
        self.setToolTip(course.text)
        self.setAccessibleDescription(course.text)
        if course != self._course:
            self._course = course
            self.update()

    def course(self) -> Course:
        """Return what is shown."""
        return self._course

    def sizeHint(self) -> QSize:
        """Return a height at which two lines part visibly."""
        return QSize(160, LINES * self.fontMetrics().height() + 2 * TIGHT)

    def minimumSizeHint(self) -> QSize:
        """Return the least width at which a course can be seen."""
        return QSize(80, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the axes with their ends, the dashed line, then the solid one over its area."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text_height = self.fontMetrics().height()
        right = self.fontMetrics().horizontalAdvance("fp16") + 2 * TIGHT
        frame = QRectF(self.rect()).adjusted(1, text_height + TIGHT, -right, -text_height - TIGHT)
        painter.setPen(QPen(hairline(self.palette()), 1))
        painter.drawLine(frame.bottomLeft(), frame.bottomRight())
        painter.drawLine(frame.topLeft(), frame.bottomLeft())
        painter.setPen(subtle(self.palette()))
        below = QRectF(frame.left(), frame.bottom() + TIGHT / 2, frame.width(), text_height)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, self._course.tokens_text or "tokens")
        above = QRectF(frame.left(), 0, frame.width(), text_height)
        painter.drawText(above, Qt.AlignmentFlag.AlignLeft, self._course.bytes_text or "bytes")
        if self._course.own:
            self._draw_lines(painter, frame)

    def _draw_lines(self, painter: QPainter, frame: QRectF) -> None:
        own, fp16 = self._placed(self._course.own, frame), self._placed(self._course.fp16, frame)
        colour, quiet = accent(self.palette()), subtle(self.palette())
        # Names of lines that end close together move apart.
        apart = max(0.0, self.fontMetrics().height() - abs(own[-1].y() - fp16[-1].y())) / 2
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(mix(self.palette().window().color(), colour, 0.18))
        painter.drawPolygon(QPolygonF([*own, QPointF(own[-1].x(), frame.bottom())]))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        alone = self._course.mode is CacheMode.FP16
        if not alone:
            painter.setPen(QPen(quiet, 1.5, Qt.PenStyle.DashLine, Qt.PenCapStyle.FlatCap))
            painter.drawPolyline(QPolygonF(fp16))
            self._name_end(painter, fp16[-1] - QPointF(0, apart), "fp16", quiet)
        painter.setPen(QPen(colour, 2, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin))
        painter.drawPolyline(QPolygonF(own))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        painter.drawEllipse(own[-1], 3.0, 3.0)
        end = own[-1] + QPointF(0, 0.0 if alone else apart)
        self._name_end(painter, end, self._course.mode.value, self.palette().windowText().color())

    def _name_end(self, painter: QPainter, end: QPointF, name: str, colour: QColor) -> None:
        height = self.fontMetrics().height()
        painter.setPen(colour)
        place = QRectF(end.x() + TIGHT + 2, end.y() - height / 2, self.width() - end.x(), height)
        painter.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, name)

    @staticmethod
    def _placed(points: tuple[Point, ...], frame: QRectF) -> list[QPointF]:
        return [QPointF(frame.left() + x * frame.width(), frame.bottom() - y * frame.height()) for x, y in points]
