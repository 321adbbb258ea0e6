"""The menu bar as each platform gets it."""

import pytest
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMainWindow

from app.ui.menus import build_menus

Role = QAction.MenuRole


@pytest.fixture
def window(qtbot):
    made = QMainWindow()
    qtbot.addWidget(made)
    return made


def test_only_the_edits_that_macs_panels_know_are_found_by_their_text(window):
    build_menus(window)
    roles = {action.objectName(): action.menuRole() for action in window.findChildren(QAction) if action.objectName()}
    heuristic = {name for name, role in roles.items() if role is Role.TextHeuristicRole and name.startswith("action_")}
    assert heuristic == {"action_cut", "action_copy", "action_paste", "action_select_all"}


def test_on_a_mac_cmd_return_is_left_to_the_window_in_front(window):
    assert build_menus(window, "linux").send.shortcut().toString() == "Ctrl+Return"
    assert build_menus(window, "darwin").send.shortcut().isEmpty()


@pytest.mark.parametrize(("platform", "has_menu"), [("darwin", True), ("linux", False)])
def test_the_window_menu_is_a_macs_and_stands_before_help(window, platform, has_menu):
    actions = build_menus(window, platform)
    titles = [heading.text() for heading in window.menuBar().actions()]
    assert titles[-2:] == (["Window", "Help"] if has_menu else ["View", "Help"])
    assert (actions.minimize is not None) == has_menu
    assert (actions.zoom is not None) == has_menu
    if actions.minimize is not None:
        assert actions.minimize.shortcut().toString() == "Ctrl+M"
