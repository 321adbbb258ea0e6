"""Session stats from the whole window's menu."""

import pytest
from PySide6.QtWidgets import QAbstractButton, QTableView

from app.paths import default_paths
from app.ui.stats_window import StatsWindow

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", "does not support raise")
"""The offscreen plugin's own remarks."""


def test_the_menu_opens_one_window_that_fills_with_replies(driver):
    action = driver.window.actions_.stats
    assert not action.shortcut().isEmpty()
    action.trigger()
    action.trigger()
    (window,) = driver.window.findChildren(StatsWindow)
    driver.chat("Hello [tokens 8]")
    driver.chat("Again [tokens 8]")
    assert window.findChild(QTableView, "stats_table").model().rowCount() == 2
    (kept,) = default_paths().sessions.iterdir()
    assert len(kept.read_text().splitlines()) == 3


def test_the_empty_page_leads_to_the_composer(driver):
    driver.window.actions_.stats.trigger()
    driver.find("stats_to_chat", QAbstractButton).click()
    assert driver.window.focusWidget() is driver.window.composer.edit
