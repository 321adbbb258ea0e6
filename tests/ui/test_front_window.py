"""Commands of the menu bar while another window is in front: on a Mac one bar stands above all of them."""

import pytest
from PySide6.QtWidgets import QDialog

from app.ui.about_dialog import AboutDialog
from app.ui.front_window import close_front, minimize_front, zoom_front
from app.ui.menus import build_menus
from app.ui.models_window import ModelsWindow
from app.ui.settings_dialog import SettingsDialog
from app.ui.stats_window import StatsWindow
from app.ui.token_dialog import TokenDialog
from app.viewmodels.reply import ChatState
from tests.ui.window_driver import Driver

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", "does not support raise")  # the offscreen plugin's own


@pytest.fixture
def stats(driver):
    """The stats, in front of the main window."""
    driver.window.actions_.stats.trigger()
    made = driver.find("stats_window", StatsWindow)
    driver.until(made.isActiveWindow)
    return made


@pytest.fixture
def driver_on_a_mac(monkeypatch, loop, program_of):
    """A window with a Mac's menus."""
    monkeypatch.setattr("app.ui.main_window.build_menus", lambda window: build_menus(window, "darwin"))
    made = Driver(loop, program_of())
    made.program.start()
    made.until_idle()
    return made


def test_close_closes_the_window_in_front_and_then_the_main_one(driver, stats):
    driver.window.actions_.close.trigger()
    assert not stats.isVisible()
    assert driver.window.isVisible()
    driver.window.activateWindow()
    driver.until(driver.window.isActiveWindow)
    driver.window.actions_.close.trigger()
    assert not driver.window.isVisible()


def test_close_closes_a_question_and_not_the_window_that_it_is_about(driver):
    driver.window.actions_.options.trigger()
    dialog = driver.find("options_dialog", QDialog)
    driver.until(dialog.isActiveWindow)
    driver.window.actions_.close.trigger()
    assert not dialog.isVisible()
    assert driver.window.isVisible()


def test_close_does_nothing_while_a_question_waits_elsewhere(driver, stats, monkeypatch):
    monkeypatch.setattr("app.ui.front_window.QApplication.activeModalWidget", lambda: driver.window)
    close_front(driver.window)
    assert stats.isVisible()
    assert driver.window.isVisible()


def test_the_chats_commands_are_not_for_other_windows(driver, qtbot):
    driver.chat("Hello")
    driver.window.composer.write("A draft")
    actions = driver.window.actions_
    own = (actions.send, actions.regenerate, actions.find, actions.delete, actions.attach, actions.options)
    assert all(action.isEnabled() for action in own)
    actions.stats.trigger()
    stats = driver.find("stats_window", StatsWindow)
    driver.until(stats.isActiveWindow)
    driver.until(lambda: not any(action.isEnabled() for action in own))
    assert actions.new_chat.isEnabled()
    assert actions.settings.isEnabled()
    driver.window.composer.write("Another draft")
    assert not actions.send.isEnabled()
    stats.close()
    driver.window.activateWindow()
    driver.until(lambda: all(action.isEnabled() for action in own))


def test_the_chats_commands_wait_while_a_panel_that_is_no_window_of_qts_is_open(driver, monkeypatch):
    driver.chat("Hello")
    actions, before = driver.window.actions_, driver.session.messages
    with monkeypatch.context() as patched:
        patched.setattr("app.ui.front_window.QApplication.activeModalWidget", lambda: driver.window.sidebar)
        actions.regenerate.trigger()
        actions.delete.trigger()
    assert driver.session.state is ChatState.IDLE
    assert driver.session.messages == before
    actions.delete.trigger()
    assert driver.session.messages == ()


def test_a_new_chat_comes_to_the_front(driver, stats):
    driver.window.actions_.new_chat.trigger()
    driver.until(driver.window.isActiveWindow)


def test_minimize_and_zoom_are_for_the_window_in_front(driver, stats):
    zoom_front()
    assert stats.isMaximized()
    zoom_front()
    assert not stats.isMaximized()
    minimize_front()
    assert stats.isMinimized()
    assert not driver.window.isMinimized()
    assert not driver.window.isMaximized()


def test_a_question_is_not_put_away(driver):
    driver.window.actions_.options.trigger()
    dialog = driver.find("options_dialog", QDialog)
    driver.until(dialog.isActiveWindow)
    minimize_front()
    zoom_front()
    assert not dialog.isMinimized()
    assert not dialog.isMaximized()
    dialog.close()


def test_on_a_mac_the_window_menu_is_connected(driver_on_a_mac):
    window = driver_on_a_mac.window
    window.activateWindow()
    driver_on_a_mac.until(window.isActiveWindow)
    window.actions_.zoom.trigger()
    assert window.isMaximized()
    window.actions_.minimize.trigger()
    assert window.isMinimized()


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("settings", SettingsDialog),
        ("about", AboutDialog),
        ("models", ModelsWindow),
        ("stats", StatsWindow),
        ("token", TokenDialog),
    ],
)
def test_a_window_is_open_once_and_comes_to_the_front_when_asked_for_again(driver, command, kind):
    action = getattr(driver.window.actions_, command)
    action.trigger()
    (first,) = driver.window.findChildren(kind)
    driver.until(first.isActiveWindow)
    driver.window.activateWindow()
    driver.until(driver.window.isActiveWindow)
    first.showMinimized()
    action.trigger()
    assert driver.window.findChildren(kind) == [first]
    assert not first.isMinimized()
    driver.until(first.isActiveWindow)
    first.close()
    driver.until(lambda: driver.window.findChild(kind) is None)
    action.trigger()
    assert driver.window.findChild(kind).isVisible()


def test_the_memory_budget_is_gone_to_in_settings_that_are_open(driver, stats):
    driver.window.actions_.settings.trigger()
    settings = driver.find("settings_dialog", SettingsDialog)
    driver.window.actions_.about.trigger()
    driver.window.commands.raise_budget()
    assert driver.window.findChildren(SettingsDialog) == [settings]
    driver.until(settings.isActiveWindow)
    assert settings.focusWidget() is driver.find("option_memory_budget_gb_fixed")
