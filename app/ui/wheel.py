"""Boxes whose value a mouse wheel changes, on pages that it scrolls."""

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QWidget


class _Guard(QObject):
    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Leave the wheel to the page as long as the box has no keyboard."""
        if event.type() != QEvent.Type.Wheel or not isinstance(watched, QWidget) or watched.hasFocus():
            return False
        event.ignore()
        return True


def turn_with_focus_only(box: QWidget) -> None:
    """Let the wheel change `box`, a number or a choice, only while it has the keyboard, which no wheel gives it.

    Otherwise whoever scrolls a page changes what happens to pass under the pointer.
    """
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    box.installEventFilter(_Guard(box))
