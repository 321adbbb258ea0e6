"""What a screen reader and a keyboard find in a window: controls, their names and roles, the round of the Tab key."""

from collections import Counter
from collections.abc import Iterable

from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QAction, QKeySequence, QShortcut, QTextDocumentFragment
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QLineEdit,
    QMainWindow,
    QMenu,
    QMenuBar,
    QPlainTextEdit,
    QScrollBar,
    QSplitterHandle,
    QTabBar,
    QTextEdit,
    QWidget,
)

_KINDS = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QTabBar,
    QTextEdit,
)
_MADE_OF_PARTS = (QAbstractSpinBox, QComboBox, QLineEdit, QAbstractItemView, QTabBar)
"""Their parts are Qt's own: a spin box's line, a combo box's list, a table's corner."""
_PARTS = (QScrollBar, QSplitterHandle, QHeaderView, QMenuBar, QMenu, QDialogButtonBox)
MOST_LINKS = 20
"""In one text of a test."""
_UNSAID = (QAccessible.Role.NoRole, QAccessible.Role.Client)

_QTS_OWN = ("qt_msgboxex_icon_label",)
"""Labels of Qt's own, without a text."""


def controls_of(window: QWidget) -> list[QWidget]:
    """Return what a person can act on in `window`, as it is shown now."""
    return [w for w in window.findChildren(QWidget) if w.window() is window and w.isVisible() and _is_control(w)]


def readers_of_html(window: QWidget) -> list[str]:
    """Return the labels that take a text for HTML where it looks like it, unasked."""
    labels = (label for label in window.findChildren(QLabel) if label.textFormat() is Qt.TextFormat.AutoText)
    return [
        label.objectName() or label.text()
        for label in labels
        if label.objectName() not in _QTS_OWN and label.metaObject().className() != "QTipLabel"
    ]


def name_of(widget: QWidget) -> str:
    """Return the name that a screen reader gives a widget."""
    return _interface(widget).text(QAccessible.Text.Name)


def unnamed(controls: Iterable[QWidget]) -> list[str]:
    """Return the controls to which a screen reader gives no name."""
    return [_said(c) for c in controls if not name_of(c).strip()]


def without_role(controls: Iterable[QWidget]) -> list[str]:
    """Return the controls of which a screen reader cannot tell what they are."""
    return [_said(c) for c in controls if _interface(c).role() in _UNSAID]


def unsaid(window: QWidget) -> list[str]:
    """Return the labels of whose text a screen reader on a Mac says nothing: it reads a label's name alone."""
    shown = [label for label in window.findChildren(QLabel) if label.isVisible() and label.text()]
    return [_said(label) for label in shown if _words(label) not in name_of(label)]


def passed_over(window: QWidget) -> list[str]:
    """Return what has something to say and is nothing to a screen reader on a Mac, a plain widget without parts."""
    telling = [w for w in window.findChildren(QWidget) if w.accessibleDescription() and not w.findChildren(QWidget)]
    return [_said(w) for w in telling if _interface(w).role() in _UNSAID]


def without_object_name(controls: Iterable[QWidget]) -> list[str]:
    """Return the controls that a test cannot find by name."""
    return [_said(c) for c in controls if not c.objectName() or c.objectName().startswith("qt_")]


def repeated_object_names(controls: Iterable[QWidget]) -> list[str]:
    """Return the object names that more than one control has."""
    return [name for name, count in Counter(c.objectName() for c in controls if c.objectName()).items() if count > 1]


def missed_by_tab(window: QWidget) -> list[str]:
    """Press Tab until it comes round; return the enabled controls it did not stop at, [why] where it never came round.

    A control that stands for another by a focus proxy is that other one; of a group of exclusive buttons one is enough.
    """
    activate(window)
    start = QApplication.focusWidget()
    if start is None or start.window() is not window:
        window.focusNextChild()
        start = QApplication.focusWidget()
    assert start is not None, "nothing in the window takes the focus"
    reached, stops = [start], 0
    for _ in range(10_000):
        now = QApplication.focusWidget()
        QTest.keyClick(now, Qt.Key.Key_Tab)
        after = QApplication.focusWidget()
        if after is start:
            break
        if after is now and isinstance(now, QLabel | QTextEdit) and stops < MOST_LINKS:
            stops += 1  # a text's next link
            continue
        if after is None or after in reached:
            return [f"Tab does not come round: from {_said(now)} to {after and _said(after)}"]
        reached.append(after)
        stops = 0
    else:
        return ["Tab does not come round"]
    wanted = [c for c in controls_of(window) if c.isEnabled() and c.focusPolicy() & Qt.FocusPolicy.TabFocus]
    return [_said(c) for c in wanted if not any(_stands_for(r, c) for r in reached)]


def beyond_tab(controls: Iterable[QWidget]) -> list[str]:
    """Return the enabled controls that only a mouse can reach."""
    return [_said(c) for c in controls if c.isEnabled() and not c.focusPolicy() & Qt.FocusPolicy.TabFocus]


def keys_outside_menus(window: QMainWindow) -> list[str]:
    """Return the actions that have keys and no place in the menu bar."""
    listed = {action for menu in _menus(window.menuBar().actions()) for action in menu.actions()}
    return [a.text() for a in window.findChildren(QAction) if not a.shortcut().isEmpty() and a not in listed]


def repeated_keys(window: QWidget) -> list[str]:
    """Return the keys that mean more than one thing in `window`."""
    keys = [k for a in window.findChildren(QAction) for k in a.shortcuts() if _belongs(a, window)]
    keys += [s.key() for s in window.findChildren(QShortcut) if _belongs(s, window)]
    return [text for text, count in Counter(map(_key_text, keys)).items() if count > 1]


def activate(window: QWidget) -> None:
    """Bring a window to the front and wait until it has the keyboard."""
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)


def _is_control(widget: QWidget) -> bool:
    if isinstance(widget, _PARTS) or widget.focusProxy() is not None:
        return False
    parent = widget.parentWidget()
    while parent is not None and not parent.isWindow():
        if isinstance(parent, _MADE_OF_PARTS):
            return False
        parent = parent.parentWidget()
    return isinstance(widget, _KINDS) or bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus)


def _stands_for(reached: QWidget, control: QWidget) -> bool:
    if reached is control or (control.isAncestorOf(reached) and isinstance(control, _MADE_OF_PARTS)):
        return True
    if isinstance(control, QAbstractButton) and isinstance(reached, QAbstractButton):
        group = control.group()
        return group is not None and group.exclusive() and reached in group.buttons()
    return False


def _menus(actions: Iterable[QAction]) -> list[QMenu]:
    found = []
    for action in actions:
        menu = action.menu()
        if isinstance(menu, QMenu):
            found += [menu, *_menus(menu.actions())]
    return found


def _words(label: QLabel) -> str:
    is_html = label.textFormat() is Qt.TextFormat.RichText
    return QTextDocumentFragment.fromHtml(label.text()).toPlainText() if is_html else label.text()


def _belongs(owned: QAction | QShortcut, window: QWidget) -> bool:
    """Tell whether keys are `window`'s own, and not those of a dialog that stands over it."""
    owner = owned.parent()
    while isinstance(owner, QMenu | QMenuBar) or (isinstance(owner, QWidget) and not owner.isWindow()):
        owner = owner.parent()
    return owner is window


def _key_text(keys: QKeySequence) -> str:
    return keys.toString(QKeySequence.SequenceFormat.PortableText)


def _interface(widget: QWidget):
    found = QAccessible.queryAccessibleInterface(widget)
    assert found is not None, _said(widget)
    return found


def _said(widget: QWidget) -> str:
    return f"{type(widget).__name__} {widget.objectName()!r} in {widget.parentWidget().objectName()!r}"
