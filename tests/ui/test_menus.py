"""The menu bar as each platform gets it."""

import pytest
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMainWindow, QMenu

from app.bundle import info_plist
from app.settings.schema import FIELDS
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


def test_what_texts_say_of_the_menus_is_so_on_a_mac_too(window, driver):
    """There what has a role of its own stands in the menu of the app, and not where Linux shows it."""
    actions = build_menus(window)
    menus = {menu.title(): menu.actions() for menu in window.menuBar().findChildren(QMenu)}
    assert actions.models in menus["File"]
    assert f"File, {actions.models.text()}" in driver.find("starter_text").toolTip()
    updates = next(field for field in FIELDS if field.key == "update_check")
    licences = info_plist()["NSHumanReadableCopyright"]
    for action, text in ((actions.updates, updates.help), (actions.about, licences)):
        assert action.menuRole() is not Role.NoRole
        assert action.text() in text
        assert "Help" not in text


@pytest.mark.parametrize(("platform", "has_menu"), [("darwin", True), ("linux", False)])
def test_the_window_menu_is_a_macs_and_stands_before_help(window, platform, has_menu):
    actions = build_menus(window, platform)
    titles = [heading.text() for heading in window.menuBar().actions()]
    assert titles[-2:] == (["Window", "Help"] if has_menu else ["View", "Help"])
    assert (actions.minimize is not None) == has_menu
    assert (actions.zoom is not None) == has_menu
    if actions.minimize is not None:
        assert actions.minimize.shortcut().toString() == "Ctrl+M"
