"""The window in front. A Mac's one menu bar stands above all windows, so its commands may be meant for any of them."""

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QWidget

from app.ui.menus import Actions


def is_another_in_front(window: QWidget) -> bool:
    """Tell whether the person is in another window of Nibble than this one."""
    return QApplication.activeWindow() not in (None, window)


def is_in_reach(window: QWidget) -> bool:
    """Tell whether commands may act on this window. A Mac's own file panels are no window of Qt's, but are modal."""
    return not is_another_in_front(window) and QApplication.activeModalWidget() in (None, window)


def where_in_reach(window: QWidget, call: Callable[[], object]) -> Callable[[], object]:
    """Return `call`, made only while commands may act on this window."""
    return lambda: is_in_reach(window) and call()


def connect_front(window: QWidget, actions: Actions) -> None:
    """Connect the commands that are for whichever window is in front; `window` is the main one."""
    actions.close.triggered.connect(lambda: close_front(window))
    if actions.minimize is not None:
        actions.minimize.triggered.connect(minimize_front)
    if actions.zoom is not None:
        actions.zoom.triggered.connect(zoom_front)


def bring_to_front(window: QWidget) -> None:
    """Show a window that is open before all others, also where it was put away."""
    window.setWindowState(window.windowState() & ~Qt.WindowState.WindowMinimized)
    window.raise_()
    window.activateWindow()


def close_front(window: QWidget) -> None:
    """Close the window in front, `window` where there is none; nothing while another one waits for an answer."""
    front = QApplication.activeWindow() or window
    if QApplication.activeModalWidget() in (None, front):
        front.close()


def minimize_front() -> None:
    """Put the window in front into the Dock; a question stays with the window that it is about."""
    if (front := QApplication.activeWindow()) is not None and not front.isModal():
        front.showMinimized()


def zoom_front() -> None:
    """Make the window in front as large as the screen allows, or as large as it was."""
    if (front := QApplication.activeWindow()) is not None and not front.isModal():
        front.setWindowState(front.windowState() ^ Qt.WindowState.WindowMaximized)
