"""A quiet bar: how much of something is reserved, and how much of that is used."""

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.ui.picture import Picture
from app.ui.theme import accent, hairline, mix, subtle

HEIGHT = 10


class Meter(Picture):
    """Draws two shares of its width: reserved as a hatched bar, used as a solid one over it.

    Texture, not colour, tells them apart; the numbers stand beside the bar and in its accessible description.
    """

    def __init__(self, name: str, parent: QWidget | None = None, *, tinted: bool = True) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._tinted = tinted
        self._reserved = 0.0
        self._used = 0.0

    def set_shares(self, reserved: float, used: float, description: str) -> None:
        """Show both shares, 0..1 of the width; `description` says them in words."""
        self.setAccessibleDescription(description)
        if (reserved, used) != (self._reserved, self._used):
            self._reserved, self._used = reserved, used
            self.update()

    def shares(self) -> tuple[float, float]:
        """Return reserved and used as shown."""
        return self._reserved, self._used

    def sizeHint(self) -> QSize:
        """Return a width that any panel can widen."""
        return QSize(120, HEIGHT)

    def minimumSizeHint(self) -> QSize:
        """Return the least width at which a share can be seen."""
        return QSize(40, HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw track, reserved and used, from back to front."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        frame = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        track = QPainterPath()
        track.addRoundedRect(frame, frame.height() / 2, frame.height() / 2)
        colour = accent(self.palette()) if self._tinted else mix(subtle(self.palette()), hairline(self.palette()), 0.35)
        painter.fillPath(track, mix(hairline(self.palette()), self.palette().window().color(), 0.35))
        painter.setClipPath(track)
        if self._reserved > 0:
            reserved = self._part(frame, self._reserved)
            painter.fillRect(reserved, mix(colour, self.palette().window().color(), 0.65))
            painter.fillRect(
                reserved, QBrush(mix(colour, self.palette().window().color(), 0.2), Qt.BrushStyle.BDiagPattern)
            )
        if self._used > 0:
            painter.fillRect(self._part(frame, self._used), colour)
        painter.setClipping(False)
        painter.setPen(QPen(hairline(self.palette()), 1))
        painter.drawPath(track)

    @staticmethod
    def _part(frame: QRectF, share: float) -> QRectF:
        width = max(2.0, frame.width() * share)
        return QRectF(frame.left(), frame.top(), width, frame.height())
