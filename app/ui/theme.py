"""Spacing, fonts and the few colours that QPalette does not name; each is mixed from the palette it is asked for.

So light, dark, high contrast and the person's own accent colour hold everywhere without a style sheet.
"""

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QPalette
from PySide6.QtWidgets import QFrame, QLabel, QWidget

TIGHT = 4
GAP = 8
WIDE = 16
"""Spacing in device-independent pixels: within a group, between items, around sections."""

LEAST_CONTRAST = 3.0
"""WCAG's for signs and large text. macOS has white on its blue, which is 4."""


def mix(first: QColor, second: QColor, share: float) -> QColor:
    """Return `first` with `share` (0..1) of `second` stirred in; opaque."""
    keep = 1.0 - share
    return QColor.fromRgbF(
        first.redF() * keep + second.redF() * share,
        first.greenF() * keep + second.greenF() * share,
        first.blueF() * keep + second.blueF() * share,
    )


def is_dark(palette: QPalette) -> bool:
    """Tell whether text is lighter than the window it stands on."""
    text, window = palette.color(QPalette.ColorRole.WindowText), palette.color(QPalette.ColorRole.Window)
    return text.lightnessF() > window.lightnessF()


def accent(palette: QPalette) -> QColor:
    """Return the person's accent colour."""
    return palette.color(QPalette.ColorRole.Accent)


def ink_on(fill: QColor) -> QColor:
    """Return the colour of signs and texts on `fill`: white where it can be told from it, else black.

    The palette's HighlightedText is meant for another colour than the accent: on a light Mac it is black.
    """
    contrast_of_white = 1.05 / (_luminance(fill) + 0.05)
    return QColor(Qt.GlobalColor.white if contrast_of_white >= LEAST_CONTRAST else Qt.GlobalColor.black)


def _luminance(colour: QColor) -> float:
    """Return WCAG's relative luminance."""
    parts = (colour.redF(), colour.greenF(), colour.blueF())
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def subtle(palette: QPalette) -> QColor:
    """Return the colour of secondary text; still above 4.5:1 on black and white windows."""
    text, window = palette.color(QPalette.ColorRole.WindowText), palette.color(QPalette.ColorRole.Window)
    return mix(text, window, 0.35)


def hairline(palette: QPalette) -> QColor:
    """Return the colour of separators and empty tracks."""
    text, window = palette.color(QPalette.ColorRole.WindowText), palette.color(QPalette.ColorRole.Window)
    return mix(window, text, 0.14)


def marked(palette: QPalette) -> QColor:
    """Return the background of a marked passage on Base."""
    return mix(palette.color(QPalette.ColorRole.Base), accent(palette), 0.35)


def code_font() -> QFont:
    """Return the system's fixed-pitch font."""
    return QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)


def scaled_font(font: QFont, factor: float, *, bold: bool = False) -> QFont:
    """Return a copy of `font` at `factor` times its size, in points or in pixels as it came."""
    copy = QFont(font)
    if font.pointSizeF() > 0:
        copy.setPointSizeF(font.pointSizeF() * factor)
    else:
        copy.setPixelSize(round(font.pixelSize() * factor))
    if bold:
        copy.setWeight(QFont.Weight.DemiBold)
    return copy


def figure_font(font: QFont) -> QFont:
    """Return a copy of `font` whose digits are all of one width, so that live figures do not dance."""
    copy = QFont(font)
    copy.setFeature(QFont.Tag("tnum"), 1)
    return copy


class TextLabel(QLabel):
    """Shows a text as it is: names and messages may come from a model's folder, and Qt would read some as HTML.

    VoiceOver reads a label's accessible name in place of its text; so a label that was given a name says both.
    """

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(text)

    def setText(self, text: str, /) -> None:
        """Show a text, and say it."""
        super().setText(text)
        self._say()

    def setAccessibleName(self, name: str, /) -> None:
        """Say `name` before the text; "" says the text alone."""
        self._name = name
        self._say()

    def _say(self) -> None:
        is_both = self._name and self.text().strip()
        super().setAccessibleName(f"{self._name}: {self.text()}" if is_both else self._name)


class SubtleLabel(TextLabel):
    """Secondary text: wraps, and follows the palette."""

    def __init__(self, text: str = "", parent: QWidget | None = None, *, factor: float = 1.0) -> None:
        super().__init__(text, parent)
        self.setWordWrap(True)
        self.setFont(scaled_font(self.font(), factor))
        self._recolour()

    def changeEvent(self, event: QEvent) -> None:
        """Take the secondary colour of the palette that the parent now has."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.ParentChange):
            self._recolour()

    def _recolour(self) -> None:
        parent = self.parentWidget()
        colour = subtle(parent.palette() if parent is not None else QPalette())
        if self.palette().color(QPalette.ColorRole.WindowText) != colour:
            own = QPalette()
            own.setColor(QPalette.ColorGroup.Active, QPalette.ColorRole.WindowText, colour)
            own.setColor(QPalette.ColorGroup.Inactive, QPalette.ColorRole.WindowText, colour)
            self.setPalette(own)


class Hairline(QFrame):
    """A thin line between sections."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(1)
        self.setAutoFillBackground(True)
        self._recolour()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the parent's palette."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.ParentChange):
            self._recolour()

    def _recolour(self) -> None:
        parent = self.parentWidget()
        colour = hairline(parent.palette() if parent is not None else QPalette())
        if self.palette().color(QPalette.ColorRole.Window) != colour:
            own = QPalette()
            own.setColor(QPalette.ColorRole.Window, colour)
            self.setPalette(own)
