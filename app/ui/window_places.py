"""Where windows were and how large, remembered from one start to the next."""

from PySide6.QtCore import QEvent, QObject, QSettings
from PySide6.QtWidgets import QWidget


class WindowPlaces(QObject):
    """Restores windows beside the main one, and notes their size and place whenever one is closed or hidden."""

    def __init__(self, settings: QSettings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._settings = settings

    def keep(self, window: QWidget) -> None:
        """Give `window` the size and place that the last one of its object name had, and remember its own."""
        if (kept := self._settings.value(window.objectName())) is not None:
            window.restoreGeometry(kept)
        window.installEventFilter(self)

    def eventFilter(self, watched: QWidget, event: QEvent) -> bool:  # type: ignore[override]
        """Note the place of a window that goes away."""
        if event.type() == QEvent.Type.Hide:
            self._settings.setValue(watched.objectName(), watched.saveGeometry())
        return False
