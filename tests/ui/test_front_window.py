"""Commands of the menu bar while another window is in front: on a Mac one bar stands above all of them."""

import pytest
from PySide6.QtWidgets import QDialog

from app.ui.front_window import close_front
from app.ui.stats_window import StatsWindow


@pytest.fixture
def stats(driver):
    """The stats, in front of the main window."""
    driver.window.actions_.stats.trigger()
    made = driver.find("stats_window", StatsWindow)
    driver.until(made.isActiveWindow)
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
