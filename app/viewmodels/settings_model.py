"""The settings, as the window holds them: one value, replaced as a whole and saved at once."""

from pathlib import Path

from PySide6.QtCore import QObject, Signal

from app.settings.file import save_settings
from app.settings.schema import Settings, checked, field, stepped, value_of, with_model, with_value

_TEXT_SIZE = "text_size_percent"


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

    def zoom(self, steps: int) -> None:
        """Make all text bigger or smaller by so many steps; 0 brings back the system's size."""
        if steps:
            self.replace(stepped(self._settings, _TEXT_SIZE, steps))
        else:
            self.replace(with_value(self._settings, _TEXT_SIZE, field(_TEXT_SIZE).default))

    def can_zoom(self, steps: int) -> bool:
        """Tell whether `zoom` would change anything."""
        size = value_of(self._settings, _TEXT_SIZE)
        if not steps:
            return bool(size != field(_TEXT_SIZE).default)
        return bool(value_of(stepped(self._settings, _TEXT_SIZE, steps), _TEXT_SIZE) != size)
