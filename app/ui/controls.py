"""Nibble's own small controls: sign buttons, the int4/fp16 switch, the notice bar. Colours come from the palette."""

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QEnterEvent, QPainter, QPaintEvent, QPalette, QPen
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.chat.options import CacheMode
from app.ui.icons import GRID, SIGNS
from app.ui.theme import GAP, TIGHT, WIDE, SubtleLabel, TextLabel, accent, hairline, ink_on, mix, subtle

SIGN_SIZE = 16
RADIUS = 7.0


def rounded(widget: QWidget, fill: QColor, border: QColor | None = None, radius: float = RADIUS) -> None:
    """Paint a rounded rectangle over the whole of `widget`; called from its paintEvent."""
    painter = QPainter(widget)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(border) if border is not None else Qt.PenStyle.NoPen)
    painter.setBrush(fill)
    painter.drawRoundedRect(QRectF(widget.rect()).adjusted(0.5, 0.5, -0.5, -0.5), radius, radius)
    painter.end()


def paint_sign(painter: QPainter, sign: str, ink: QColor, corner: QPointF) -> None:
    """Paint a sign whose upper left corner is `corner`."""
    painter.save()
    painter.translate(corner)
    painter.scale(SIGN_SIZE / GRID, SIGN_SIZE / GRID)
    painter.setPen(QPen(ink, 1.5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin))
    painter.setBrush(ink if sign == "stop" else Qt.BrushStyle.NoBrush)
    painter.drawPath(SIGNS[sign]())
    painter.restore()


class SignButton(QToolButton):
    """A flat button with a sign, a text, or both; `solid` fills it with the accent colour, `framed` outlines it."""

    def __init__(
        self,
        sign: str,
        name: str,
        tooltip: str,
        parent: QWidget | None = None,
        *,
        text: str = "",
        solid: bool = False,
        framed: bool = False,
        sign_last: bool = False,
    ) -> None:
        super().__init__(parent)
        self._sign = sign
        self._solid = solid
        self._framed = framed
        self._sign_last = sign_last
        self.setObjectName(name)
        self._tooltip = tooltip
        self.setText(text)
        self.setToolTip(tooltip)
        self.setAccessibleName(text or tooltip)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.ArrowCursor)

    def set_sign(self, sign: str, tooltip: str) -> None:
        """Change what the button shows and says."""
        self._sign = sign
        self._tooltip = tooltip
        self.setToolTip(tooltip)
        self.setAccessibleName(self.text() or tooltip)
        self.update()

    def set_reason(self, reason: str) -> None:
        """Grey the button and say in its tooltip why it cannot be pressed; "" lets it be pressed."""
        self.setEnabled(not reason)
        self.setToolTip(f"{self._tooltip}. {reason}" if reason else self._tooltip)
        self.setAccessibleDescription(reason)

    def sizeHint(self) -> QSize:
        """Return room for sign and text."""
        height = max(28, self.fontMetrics().height() + 10)
        if not self.text():
            return QSize(height, height)
        sign = SIGN_SIZE + 6 if self._sign else 0
        return QSize(self.fontMetrics().horizontalAdvance(self.text()) + sign + 20, height)

    def minimumSizeHint(self) -> QSize:
        """Return the same as sizeHint: a cut-off button says nothing."""
        return self.sizeHint()

    def enterEvent(self, event: QEnterEvent) -> None:
        """Repaint for the hover background."""
        super().enterEvent(event)
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        """Repaint for the hover background."""
        super().leaveEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw background, sign and text."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self._paint_background(painter)
        if self._sign:
            paint_sign(painter, self._sign, ink, QPointF(self._sign_left(), (self.height() - SIGN_SIZE) / 2))
        if self.text():
            left = 10 + SIGN_SIZE + 6 if self._sign and not self._sign_last else 10
            side = Qt.AlignmentFlag.AlignLeft if self._sign else Qt.AlignmentFlag.AlignHCenter
            painter.setPen(ink)
            area = QRectF(left, 0, self.width() - left - (0 if self._sign else 10), self.height())
            painter.drawText(area, int(Qt.AlignmentFlag.AlignVCenter | side), self.text())
        painter.end()

    def _sign_left(self) -> float:
        if not self.text():
            return (self.width() - SIGN_SIZE) / 2
        return self.width() - 8.0 - SIGN_SIZE if self._sign_last else 10.0

    def _paint_background(self, painter: QPainter) -> QColor:
        palette = self.palette()
        ink = palette.color(QPalette.ColorRole.WindowText)
        area = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        painter.setPen(QPen(accent(palette), 2) if self.hasFocus() else Qt.PenStyle.NoPen)
        if self._solid:
            fill = accent(palette) if self.isEnabled() else hairline(palette)
            fill = mix(fill, ink, 0.2) if self.isDown() else fill
            painter.setBrush(fill)
            painter.drawEllipse(area)
            return ink_on(fill) if self.isEnabled() else palette.color(QPalette.ColorRole.Mid)
        if not self.isEnabled():
            return mix(ink, palette.color(QPalette.ColorRole.Window), 0.65)
        if self._framed and not self.hasFocus():
            painter.setPen(QPen(mix(hairline(palette), ink, 0.1)))
        strength = 0.16 if self.isDown() or self.isChecked() else 0.08 if self.underMouse() else 0.0
        painter.setBrush(QColor(ink.red(), ink.green(), ink.blue(), round(255 * strength)))
        painter.drawRoundedRect(area, RADIUS, RADIUS)
        return ink


class CacheSwitch(QFrame):
    """Chooses int4 or fp16 for the open conversation."""

    chosen = Signal(object)
    """CacheMode."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("cache_switch")
        self.setAccessibleName("KV cache of this chat")
        row = QHBoxLayout(self)
        row.setContentsMargins(2, 2, 2, 2)
        row.setSpacing(2)
        self._group = QButtonGroup(self)
        self._buttons: dict[CacheMode, SignButton] = {}
        for mode, tooltip in (
            (CacheMode.INT4, "Hold this chat's KV cache in int4, about 3.5 times smaller than fp16"),
            (CacheMode.FP16, "Hold this chat's KV cache in 16 bits, as mlx-lm does"),
        ):
            button = SignButton("", f"cache_{mode.value}", tooltip, text=mode.value)
            button.setCheckable(True)
            button.setAccessibleName(f"{mode.value} cache")
            button.setAccessibleDescription(tooltip)
            button.clicked.connect(lambda _=False, m=mode: self.chosen.emit(m))
            self._group.addButton(button)
            self._buttons[mode] = button
            row.addWidget(button)

    def show_mode(self, mode: CacheMode) -> None:
        """Mark a mode as chosen."""
        self._buttons[mode].setChecked(True)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the outline."""
        rounded(self, QColor(Qt.GlobalColor.transparent), hairline(self.palette()))


class NoticeBar(QFrame):
    """Says what went wrong and offers what can be done, or what was done; hidden otherwise.

    While the engine is down every notice offers to restart it and stays until that is done.
    """

    restart_asked = Signal()
    details_asked = Signal(str)
    undo_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("notice_bar")
        self._detail = ""
        self._message = TextLabel()
        self._message.setObjectName("notice_message")
        self._hint = SubtleLabel()
        self._hint.setObjectName("notice_hint")
        for label in (self._message, self._hint):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self._restart = QPushButton("Restart Engine")
        self._restart.setObjectName("restart_engine")
        self._restart.setAccessibleName("Restart the engine")
        self._restart.clicked.connect(self._ask_restart)
        self._details = QPushButton("Details…")
        self._details.setObjectName("notice_details")
        self._details.setAccessibleName("Show technical details")
        self._details.clicked.connect(lambda: self.details_asked.emit(self._detail))
        self._undo = QPushButton("Undo")
        self._undo.setObjectName("notice_undo")
        self._undo.setAccessibleName("Undo what was done")
        self._undo.clicked.connect(self.undo_asked)
        self._close = SignButton("close", "notice_close", "Dismiss this notice")
        self._close.clicked.connect(self.hide)
        self._is_good = False

        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, TIGHT, 0, 0)
        buttons.addWidget(self._restart)
        buttons.addWidget(self._details)
        buttons.addStretch(1)
        texts = QVBoxLayout()
        texts.setContentsMargins(0, TIGHT, 0, TIGHT)
        texts.setSpacing(TIGHT)
        texts.addWidget(self._message)
        texts.addWidget(self._hint)
        texts.addLayout(buttons)
        row = QHBoxLayout(self)
        row.setContentsMargins(WIDE, TIGHT, GAP, TIGHT)
        row.addLayout(texts, 1)
        row.addWidget(self._undo, 0, Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self._close, 0, Qt.AlignmentFlag.AlignTop)
        self._restart.hide()
        self.hide()

    @property
    def message(self) -> str:
        """What it says, or said last."""
        return self._message.text()

    def show_notice(self, message: str, hint: str = "", detail: str = "") -> None:
        """Show what went wrong in place of the notice before."""
        self._show(message, hint, detail, is_good=False)

    def show_done(self, message: str) -> None:
        """Show what was done in place of the notice before."""
        self._show(message, "", "", is_good=True)

    def offer_undo(self, message: str) -> None:
        """Show what was done, and that it can be undone until `withdraw_undo`."""
        self._show(message, "", "", is_good=True)
        self._undo.show()

    def withdraw_undo(self) -> None:
        """Take that notice away, if it is still the one that is shown."""
        if not self._undo.isHidden():
            self._undo.hide()
            self.hide()

    def set_engine_down(self, is_down: bool) -> None:
        """Offer to restart the engine, or no longer."""
        if self._close.isHidden() and not is_down:
            self.hide()
        self._restart.setVisible(is_down)
        self._close.setVisible(not is_down)

    def _show(self, message: str, hint: str, detail: str, *, is_good: bool) -> None:
        self._is_good = is_good
        self._message.setText(message)
        self._hint.setText(hint)
        self._hint.setVisible(bool(hint))
        self._detail = detail
        self._details.setVisible(bool(detail))
        self._undo.hide()
        self.setAccessibleName(f"{message} {hint}".strip())
        self.show()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw a quiet background: a warning, or none where something was done."""
        base = self.palette().color(QPalette.ColorRole.Base)
        tint = accent(self.palette()) if self._is_good else QColor.fromHslF(0.09, 0.85, 0.5)
        rounded(self, mix(base, tint, 0.12), mix(base, tint, 0.5))

    def _ask_restart(self) -> None:
        self.hide()
        self.restart_asked.emit()


class Page(QWidget):
    """A surface in the palette's Base colour.

    It is painted rather than set as a background role, which labels would inherit and draw in another text colour.
    """

    def paintEvent(self, event: QPaintEvent) -> None:
        """Fill the surface."""
        painter = QPainter(self)
        painter.fillRect(event.rect(), self.palette().color(QPalette.ColorRole.Base))
        painter.end()


class Bubble(QFrame):
    """A rounded background for a message of the person's own."""

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the background."""
        palette = self.palette()
        rounded(self, mix(palette.color(QPalette.ColorRole.Base), accent(palette), 0.13), radius=12)


class Field(QFrame):
    """A rounded frame around a text input; its outline follows the focus of `watched`."""

    def __init__(self, parent: QWidget | None = None, *, radius: float = 12.0) -> None:
        super().__init__(parent)
        self._radius = radius
        self._watched: QWidget | None = None

    def watch(self, widget: QWidget) -> None:
        """Follow the focus of `widget`."""
        self._watched = widget
        widget.installEventFilter(self)

    def eventFilter(self, watched: QWidget, event: QEvent) -> bool:  # type: ignore[override]
        """Repaint as the focus comes and goes."""
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
            self.update()
        return False

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw background and outline."""
        palette = self.palette()
        focused = self._watched is not None and self._watched.hasFocus()
        border = accent(palette) if focused else mix(hairline(palette), subtle(palette), 0.2)
        rounded(self, palette.color(QPalette.ColorRole.Base), border, radius=self._radius)
