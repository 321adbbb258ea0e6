"""What a screen reader says of its own accord. Qt tells nobody what was announced, so its entrance is watched."""

import pytest

from app.ui import announcements
from app.viewmodels.reply import ChatState


@pytest.fixture
def said(monkeypatch):
    words = []

    class Entrance:
        @staticmethod
        def updateAccessibility(event):  # noqa: N802
            words.append((event.object().objectName(), event.message()))

    monkeypatch.setattr(announcements, "QAccessible", Entrance)
    return words


def test_a_reply_is_announced_by_its_states_and_not_by_its_tokens(said, driver):
    said.clear()
    driver.chat("Hello")
    words = [text for source, text in said if source == "main_window"]
    assert words == ["Reading your message", "Writing", "Ready"]


def test_what_another_chat_does_is_not_announced(said, driver):
    said.clear()
    announcements.announce_state(driver.window, ChatState.BUSY)
    assert said == []
    announcements.announce_state(driver.window, ChatState.FAILED)
    assert said == [("main_window", "The engine stopped")]


def test_a_deletion_and_the_place_that_was_found_are_announced(said, driver):
    driver.chat("Hello")
    said.clear()
    driver.window.actions_.find.trigger()
    driver.window.find_bar.edit.setText("hello")
    driver.window.actions_.find_next.trigger()
    assert said[-1][1] == driver.window.find_bar.count_text != ""
    driver.window.actions_.delete.trigger()
    assert said[-1][0] == "main_window"
    assert "Hello" in said[-1][1]
