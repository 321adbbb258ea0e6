"""The settings, as the window holds them: one value, replaced as a whole and saved at once."""

from pathlib import Path

from PySide6.QtCore import QObject, Signal

from app.settings.file import save_settings
from app.settings.schema import Settings, checked, with_model


class SettingsModel(QObject):
    """The settings in force."""

    changed = Signal(object)
    """The new Settings."""

    def __init__(self, settings: Settings, path: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._path = path

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    def replace(self, settings: Settings) -> None:
        """Take and save other settings. Raises NibbleError where a value is out of bounds."""
        if settings == self._settings:
            return
        save_settings(self._path, checked(settings))
        self._settings = settings
        self.changed.emit(self._settings)

    def remember_model(self, path: str) -> None:
        """Note the model folder to open next time ("" is the starter), and put it first among the recent ones."""
        self.replace(with_model(self._settings, path))
