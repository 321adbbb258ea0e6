"""Pins, headings and deletion with undo, through the whole window."""

from datetime import UTC, datetime, timedelta

import pytest
from PySide6.QtCore import QEvent, QModelIndex, QPoint, Qt
from PySide6.QtWidgets import QApplication, QLabel, QMenu

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.viewmodels import conversation_list
from app.viewmodels.date_groups import grouped


@pytest.fixture
def filled(driver):
    for title in ("first", "second", "third"):
        made = driver.program.store.create_conversation(title, "", ChatOptions())
        driver.program.store.add_message(made.id, Message(Role.USER, f"about {title}"))
    driver.program.models.conversations.refresh()
    return driver


def rows(driver) -> list[str]:
    listed = driver.program.models.conversations
    return [listed.index(row).data() for row in range(listed.rowCount())]


def choose(driver, title: str) -> None:
    listed = driver.program.models.conversations
    row = next(row for row in range(listed.rowCount()) if listed.index(row).data() == title)
    driver.window.sidebar.list.setCurrentIndex(listed.index(row))
    driver.window.sidebar.list.clicked.emit(listed.index(row))


def context_menu(driver, title: str) -> dict[str, object]:
    view, listed = driver.window.sidebar.list, driver.program.models.conversations
    row = next(row for row in range(listed.rowCount()) if listed.index(row).data() == title)
    view.customContextMenuRequested.emit(view.visualRect(listed.index(row)).center())
    menu = driver.window.sidebar.findChild(QMenu, "conversation_menu")
    return {action.text(): action for action in menu.actions()}


def test_a_chat_is_pinned_by_menu_and_unpinned_by_context_menu(filled, monkeypatch):
    monkeypatch.setattr(QMenu, "popup", lambda *_: None)  # the offscreen platform has no grabs
    choose(filled, "first")
    filled.window.actions_.pin.trigger()
    assert rows(filled) == ["Pinned", "first", "Today", "third", "second"]
    assert filled.window.actions_.pin.text() == "Unpin Chat"
    context_menu(filled, "first")["Unpin"].trigger()
    assert rows(filled) == ["Today", "third", "second", "first"]
    assert filled.window.actions_.pin.text() == "Pin Chat"


def test_keys_pass_headings_over_and_delete_the_current_chat(filled, qtbot):
    choose(filled, "second")
    filled.window.actions_.pin.trigger()
    view = filled.window.sidebar.list
    view.setFocus()
    assert rows(filled) == ["Pinned", "second", "Today", "third", "first"]
    qtbot.keyClick(view, Qt.Key.Key_Down)
    assert view.currentIndex().data() == "third"
    qtbot.keyClick(view, Qt.Key.Key_Up)
    qtbot.keyClick(view, Qt.Key.Key_Up)
    assert view.currentIndex().data() == "second"
    qtbot.keyClick(view, Qt.Key.Key_Down)
    qtbot.keyClick(view, Qt.Key.Key_Delete)
    assert rows(filled) == ["Pinned", "second", "Today", "first"]


@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Enter])
def test_return_opens_the_current_chat_once(filled, qtbot, key):
    choose(filled, "third")
    view, opened = filled.window.sidebar.list, []
    filled.window.sidebar.opened.connect(opened.append)
    view.setFocus()
    qtbot.keyClick(view, Qt.Key.Key_Down)
    assert view.currentIndex().data() == "second"
    qtbot.keyClick(view, key)
    assert len(opened) == 1
    assert filled.session.title == "second"


def test_return_opens_nothing_where_no_chat_is_current(filled, qtbot):
    view, opened = filled.window.sidebar.list, []
    filled.window.sidebar.opened.connect(opened.append)
    view.setCurrentIndex(QModelIndex())
    qtbot.keyClick(view, Qt.Key.Key_Return)
    assert opened == []


def test_deletion_is_undone_from_the_notice(filled):
    choose(filled, "second")
    filled.window.actions_.delete.trigger()
    assert rows(filled) == ["Today", "third", "first"]
    assert filled.find("empty_state").isVisible()
    assert filled.find("notice_message", QLabel).text() == "“second” was deleted."
    filled.click("notice_undo")
    assert rows(filled) == ["Today", "third", "second", "first"]
    assert filled.texts() == ["about second"]
    assert not filled.find("notice_bar").isVisible()


def test_deletion_is_undone_by_keys_and_final_when_the_time_is_over(filled):
    choose(filled, "second")
    filled.window.actions_.delete.trigger()
    assert filled.window.actions_.undo_delete.isEnabled()
    filled.window.actions_.undo_delete.trigger()
    assert not filled.window.actions_.undo_delete.isEnabled()
    filled.window.actions_.delete.trigger()
    filled.program.models.deletions.finish()
    assert not filled.find("notice_bar").isVisible()
    assert not filled.window.actions_.undo_delete.isEnabled()
    assert [c.title for c in filled.program.store.conversations()] == ["third", "first"]


def test_another_notice_is_not_taken_away_with_the_offer(filled):
    choose(filled, "second")
    filled.window.actions_.delete.trigger()
    filled.window.notice.show_notice("The disk is full.")
    assert not filled.find("notice_undo").isVisible()
    filled.program.models.deletions.finish()
    assert filled.find("notice_message", QLabel).text() == "The disk is full."
    assert filled.find("notice_bar").isVisible()


def test_a_window_that_is_come_back_to_on_another_day_groups_anew(filled, monkeypatch):
    def tomorrow(conversations):
        return grouped(conversations, datetime.now(UTC) + timedelta(days=1))

    monkeypatch.setattr(conversation_list, "grouped", tomorrow)
    monkeypatch.setattr(filled.window, "isActiveWindow", lambda: True)
    QApplication.sendEvent(filled.window, QEvent(QEvent.Type.ActivationChange))
    assert rows(filled) == ["Yesterday", "third", "second", "first"]


def test_a_heading_has_no_menu_and_opens_nothing(filled):
    view, listed = filled.window.sidebar.list, filled.program.models.conversations
    view.clicked.emit(listed.index(0))
    assert filled.session.conversation is None
    view.customContextMenuRequested.emit(view.visualRect(listed.index(0)).center())
    view.customContextMenuRequested.emit(QPoint(5, view.height() - 2))
    assert filled.window.sidebar.findChild(QMenu, "conversation_menu") is None
