"""How a request to quit, from the menu, the Dock or the system, becomes the closing of the window."""

from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QApplication


class QuitFilter(QObject):
    """Installed on the application: once Qt has quit in its own way, nothing can be awaited any more."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take the Quit event."""
        if event.type() == QEvent.Type.Quit:
            QApplication.closeAllWindows()
            return True
        return False
