"""What the windows in which something runs for a while have in common: Esc and closing stop it."""

from typing import Protocol

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QDialog


class Run(Protocol):
    """What runs: a comparison, a measurement."""

    @property
    def is_running(self) -> bool:
        """Whether it does now."""

    def cancel(self) -> None:
        """Stop it, if it runs."""


class RunWindow(QDialog):
    """A window of its own around one run, which a subclass sets before anything is shown."""

    _run: Run

    def stop(self) -> None:
        """Stop the run; what there is by then stays."""
        self._run.cancel()

    def done(self, result: int) -> None:
        """Close, and stop what runs."""
        self._run.cancel()
        super().done(result)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Let Esc stop a run before it closes the window."""
        if event.key() == Qt.Key.Key_Escape and self._run.is_running:
            self.stop()
            return
        super().keyPressEvent(event)
