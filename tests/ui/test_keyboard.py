"""A whole visit without a mouse: every step is a key, and what has no key of its own is reached by Tab."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication

from app.viewmodels.reply import ChatState

NONE, CTRL, SHIFT, ALT = (
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.AltModifier,
)
MOST_TABS = 80


@pytest.fixture
def hands(driver, qtbot):
    driver.window.activateWindow()
    driver.until(driver.window.isActiveWindow)
    return Hands(driver, qtbot)


class Hands:
    def __init__(self, driver, qtbot) -> None:
        self.driver = driver
        self._qtbot = qtbot

    def press(self, key, modifiers=NONE) -> None:
        self._qtbot.keyClick(QApplication.focusWidget() or self.driver.window, key, modifiers)
        QApplication.processEvents()

    def type(self, text: str) -> None:
        self._qtbot.keyClicks(QApplication.focusWidget(), text)

    def reach(self, name: str) -> None:
        """Go on by Tab until the control of this name has the focus."""
        passed = []
        for _ in range(MOST_TABS):
            passed.append(QApplication.focusWidget().objectName())
            if passed[-1].startswith(name):
                return
            self.press(Qt.Key.Key_Tab)
        raise AssertionError(f"{name} is not reached by Tab, only {passed}")


def test_a_visit_without_a_mouse(hands):
    driver = hands.driver
    hands.type("Hello [tokens 12]")
    hands.press(Qt.Key.Key_Return)
    driver.until(lambda: driver.session.state is not ChatState.IDLE)
    driver.until_idle()
    hands.press(Qt.Key.Key_R, CTRL)
    driver.until(lambda: len(driver.session.versions) == 1)
    driver.until_idle()
    newest = driver.session.messages[-1].id
    hands.reach("previous_version")
    hands.press(Qt.Key.Key_Space)
    assert driver.session.messages[-1].id != newest
    hands.press(Qt.Key.Key_E, CTRL | ALT)
    assert driver.window.composer.is_editing
    hands.press(Qt.Key.Key_Escape)
    assert not driver.window.composer.is_editing
    hands.reach("copy_message")
    hands.press(Qt.Key.Key_Space)
    assert QApplication.clipboard().text() == driver.session.messages[-1].message.text
    hands.reach("cache_int4")
    hands.press(Qt.Key.Key_Right)
    assert driver.session.options.cache_mode.value == "fp16"
    hands.press(Qt.Key.Key_F, CTRL)
    hands.type("hello")
    assert driver.window.find_bar.count_text == "1 of 1"
    hands.press(Qt.Key.Key_Escape)
    hands.reach("panel_headline")
    hands.press(Qt.Key.Key_PageDown)
    assert driver.find("panel_scroll").verticalScrollBar().value() > 0
    hands.press(Qt.Key.Key_I, CTRL | ALT)
    assert not driver.window.panel.isVisible()
    hands.press(Qt.Key.Key_P, CTRL | SHIFT)
    assert driver.session.conversation.is_pinned
    hands.press(Qt.Key.Key_N, CTRL)
    assert driver.session.conversation is None
    hands.reach("suggestion_0")
    hands.press(Qt.Key.Key_Space)
    assert driver.window.composer.text
    hands.press(Qt.Key.Key_F, CTRL | SHIFT)
    hands.type("hello")
    driver.until(lambda: driver.program.models.conversations.rowCount() == 2)
    hands.reach("conversation_list")
    hands.press(Qt.Key.Key_Down)
    hands.press(Qt.Key.Key_Return)
    assert driver.session.conversation is not None
    hands.press(Qt.Key.Key_Backspace, CTRL | SHIFT)
    assert driver.session.conversation is None
    hands.press(Qt.Key.Key_Z, CTRL | ALT)
    assert driver.program.models.conversations.rowCount() == 2
