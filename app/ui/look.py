"""Light or dark, and how big text is: the settings' word for it, brought to all windows."""

from typing import Protocol

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QFont, QGuiApplication
from PySide6.QtWidgets import QApplication

from app.settings.schema import Appearance
from app.ui.theme import scaled_font
from app.viewmodels.settings_model import SettingsModel

_SCHEMES = {
    Appearance.SYSTEM: Qt.ColorScheme.Unknown,
    Appearance.LIGHT: Qt.ColorScheme.Light,
    Appearance.DARK: Qt.ColorScheme.Dark,
}
_SIZE_RESOLVED = 2
"""QFont::SizeResolved, for which PySide has no name."""
_SYSTEM_FONT = "nibble_system_font"


class Hints(Protocol):
    """The part of QStyleHints that a look needs."""

    def setColorScheme(self, scheme: Qt.ColorScheme, /) -> None:
        """Ask the platform for light, dark, or (Unknown) what the system has."""


class Look(QObject):
    """Follows the settings. Qt redraws every window in the new colours; here every text gets its new size.

    Texts without a size of their own take the application's. The others (headings, secondary lines) keep their share
    of it.
    """

    def __init__(self, settings: SettingsModel, parent: QObject | None = None, hints: Hints | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._hints: Hints = hints if hints is not None else QGuiApplication.styleHints()
        self._appearance = Appearance.SYSTEM
        self._follow()
        settings.changed.connect(self._follow)

    def _follow(self) -> None:
        settings = self._settings.settings
        if settings.appearance is not self._appearance:
            self._appearance = settings.appearance
            self._hints.setColorScheme(_SCHEMES[self._appearance])
        set_text_size(settings.text_size_percent)


def use_one_font(application: QApplication) -> None:
    """Give every kind of widget the application's own font, before any is made.

    macOS has smaller ones for some kinds, which Qt forgets as soon as the application's is set: at the first change of
    size those texts would jump.
    """
    application.setFont(application.font())


def set_text_size(percent: int) -> None:
    """Show all text at `percent` of the system's size, in windows that stand and in those to come."""
    application = QApplication.instance()
    assert application is not None
    if application.property(_SYSTEM_FONT) is None:
        application.setProperty(_SYSTEM_FONT, QApplication.font())
    before, now = QApplication.font(), scaled_font(application.property(_SYSTEM_FONT), percent / 100)
    factor = _size(now) / _size(before)
    if factor == 1.0:
        return
    QApplication.setFont(now)
    for widget in QApplication.allWidgets():
        if widget.testAttribute(Qt.WidgetAttribute.WA_SetFont) and widget.font().resolveMask() & _SIZE_RESOLVED:
            widget.setFont(scaled_font(widget.font(), factor))


def _size(font: QFont) -> float:
    return font.pointSizeF() if font.pointSizeF() > 0 else font.pixelSize()
