"""The few signs on Nibble's buttons, drawn as strokes so that they take the palette's colours at any size."""

from collections.abc import Callable

from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QPainterPath

GRID = 16.0
"""Signs are drawn on a square of this many units."""


def _lines(*strokes: tuple[tuple[float, float], ...]) -> QPainterPath:
    path = QPainterPath()
    for first, *rest in strokes:
        path.moveTo(QPointF(*first))
        for point in rest:
            path.lineTo(QPointF(*point))
    return path


def _send() -> QPainterPath:
    return _lines(((8, 13), (8, 3.5)), ((4, 7.5), (8, 3.5), (12, 7.5)))


def _stop() -> QPainterPath:
    path = QPainterPath()
    path.addRoundedRect(QRectF(4.5, 4.5, 7, 7), 1, 1)
    return path


def _plus() -> QPainterPath:
    return _lines(((8, 3), (8, 13)), ((3, 8), (13, 8)))


def _panel() -> QPainterPath:
    path = _lines(((10.5, 3), (10.5, 13)))
    path.addRoundedRect(QRectF(2, 3, 12, 10), 2, 2)
    return path


def _sliders() -> QPainterPath:
    path = _lines(((2, 5), (7.5, 5)), ((11.5, 5), (14, 5)), ((2, 11), (4.5, 11)), ((8.5, 11), (14, 11)))
    path.addEllipse(QPointF(9.5, 5), 2, 2)
    path.addEllipse(QPointF(6.5, 11), 2, 2)
    return path


def _copy() -> QPainterPath:
    path = QPainterPath()
    path.addRoundedRect(QRectF(5.5, 5.5, 8, 8), 1.5, 1.5)
    path.moveTo(3.5, 10.5)
    path.arcTo(QRectF(2.5, 8.5, 2, 2), 270, -90)
    path.lineTo(2.5, 4)
    path.arcTo(QRectF(2.5, 2.5, 3, 3), 180, -90)
    path.lineTo(9.5, 2.5)
    path.arcTo(QRectF(8.5, 2.5, 2, 2), 90, -90)
    return path


def _again() -> QPainterPath:
    path = QPainterPath()
    path.arcMoveTo(QRectF(3, 3, 10, 10), 40)
    path.arcTo(QRectF(3, 3, 10, 10), 40, 290)
    path.addPath(_lines(((12.6, 1.8), (12.2, 5), (9, 4.7))))
    return path


def _pencil() -> QPainterPath:
    return _lines(((3, 13), (3.6, 10.2), (10.8, 3), (13, 5.2), (5.8, 12.4), (3, 13)))


def _down() -> QPainterPath:
    return _lines(((8, 3), (8, 12.5)), ((4, 8.5), (8, 12.5), (12, 8.5)))


def _close() -> QPainterPath:
    return _lines(((4, 4), (12, 12)), ((12, 4), (4, 12)))


def _chevron() -> QPainterPath:
    return _lines(((4.5, 6.5), (8, 10), (11.5, 6.5)))


def _up() -> QPainterPath:
    return _lines(((4.5, 9.5), (8, 6), (11.5, 9.5)))


def _right() -> QPainterPath:
    return _lines(((6.5, 4.5), (10, 8), (6.5, 11.5)))


def _left() -> QPainterPath:
    return _lines(((9.5, 4.5), (6, 8), (9.5, 11.5)))


def _search() -> QPainterPath:
    path = _lines(((10, 10), (13.5, 13.5)))
    path.addEllipse(QPointF(6.8, 6.8), 4.3, 4.3)
    return path


SIGNS: dict[str, Callable[[], QPainterPath]] = {
    "send": _send,
    "stop": _stop,
    "plus": _plus,
    "panel": _panel,
    "sliders": _sliders,
    "copy": _copy,
    "again": _again,
    "pencil": _pencil,
    "down": _down,
    "close": _close,
    "chevron": _chevron,
    "up": _up,
    "right": _right,
    "left": _left,
    "search": _search,
}
"""Every sign by name."""
