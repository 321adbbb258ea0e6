"""Find in the open chat, through the whole window."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor

from app.chat.attachment import Attachment, with_attachments
from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.store.store import MessageState
from app.ui.transcript import MESSAGES_SHOWN
from app.viewmodels.reply import ChatState

MANY = MESSAGES_SHOWN + 40


def chat_of(driver, *texts: str) -> list[int]:
    store = driver.program.store
    made = store.create_conversation("Old chat", "", ChatOptions())
    ids = [
        store.add_message(made.id, Message((Role.USER, Role.ASSISTANT)[i % 2], text), MessageState.COMPLETE).id
        for i, text in enumerate(texts)
    ]
    driver.session.open(made.id)
    return ids


@pytest.fixture
def found(driver, qtbot):
    def find(text: str) -> str:
        driver.window.actions_.find.trigger()
        driver.window.find_bar.edit.clear()
        qtbot.keyClicks(driver.window.find_bar.edit, text)
        return driver.window.find_bar.count_text

    return find


def press(driver, qtbot, key, modifier=Qt.KeyboardModifier.NoModifier) -> str:
    qtbot.keyClick(driver.window.find_bar.edit, key, modifier)
    return driver.window.find_bar.count_text


def marks(driver) -> list[str]:
    return [s.cursor.selectedText() for view in driver.window.transcript.views for s in view.text.extraSelections()]


def colours(text) -> list[QColor]:
    return [s.format.background().color() for s in text.extraSelections()]


def test_places_are_counted_marked_and_gone_through_in_a_ring(driver, found, qtbot):
    chat_of(driver, "A Fox", "the **fo**x and `fox`\n\n```\nfox = 1\n```", "none")
    assert found("fox") == "1 of 4"
    assert marks(driver) == ["Fox", "fox", "fox", "fox"]
    assert press(driver, qtbot, Qt.Key.Key_Return) == "2 of 4"
    assert press(driver, qtbot, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier) == "1 of 4"
    assert press(driver, qtbot, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier) == "4 of 4"
    driver.click("find_next")
    assert driver.window.find_bar.count_text == "1 of 4"
    driver.window.actions_.find_previous.trigger()
    assert driver.window.find_bar.count_text == "4 of 4"
    shown = [colour for view in driver.window.transcript.views for colour in colours(view.text)]
    assert shown[3] != shown[0] == shown[1]


def test_escape_and_the_button_close_the_bar_and_take_the_marks_away(driver, found, qtbot):
    chat_of(driver, "fox", "fox")
    found("fox")
    driver.window.activateWindow()
    press(driver, qtbot, Qt.Key.Key_Escape)
    assert not driver.window.find_bar.isVisible()
    assert marks(driver) == []
    found("fox")
    driver.click("find_close")
    assert not driver.window.find_bar.isVisible()


def test_what_is_not_there(driver, found):
    chat_of(driver, "fox", "fox")
    assert found("badger") == "Not found"
    assert not driver.find("find_next").isEnabled()
    assert found("") == ""
    assert marks(driver) == []


def test_earlier_messages_are_built_when_a_place_is_in_them(driver, found, qtbot):
    texts = ["the lantern here"] + [f"message {i}" for i in range(MANY)] + ["a *lan*tern"]
    ids = chat_of(driver, *texts)
    transcript = driver.window.transcript
    assert len(transcript.views) == MESSAGES_SHOWN
    assert found("lantern") == "2 of 2"
    assert len(transcript.views) == MESSAGES_SHOWN
    assert press(driver, qtbot, Qt.Key.Key_Return) == "1 of 2"
    assert transcript.views[0].stored.id == ids[0]
    first = transcript.views[0]
    qtbot.waitUntil(lambda: not first.visibleRegion().isEmpty())
    assert marks(driver) == ["lantern", "lantern"]
    qtbot.wait(400)
    assert not first.visibleRegion().isEmpty()
    assert not transcript.follows_end


def test_the_first_place_in_sight_is_the_first_one_shown(driver, found, qtbot):
    chat_of(driver, *[f"fox {i}\n\n" + "line\n" * 20 for i in range(6)])
    bar = driver.window.transcript.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 500 and bar.value() == bar.maximum())
    qtbot.wait(200)
    assert found("fox") in ("4 of 6", "5 of 6")  # a reply in sight by its last line counts


def test_a_text_that_grows_is_followed(driver, found, qtbot):
    driver.say("fox [tokens 4000] [token-ms 2]")
    driver.until(lambda: driver.session.state is ChatState.DECODING)
    assert found("fox").startswith("1 of ")
    driver.until(lambda: int(driver.window.find_bar.count_text.split(" of ")[1]) > 3)
    assert driver.window.find_bar.count_text.startswith("1 of ")
    driver.session.stop()
    driver.until_idle()
    assert len(marks(driver)) == int(driver.window.find_bar.count_text.split(" of ")[1])


def test_another_chat_is_searched_for_the_same_and_an_empty_one_closes_the_bar(driver, found):
    chat_of(driver, "fox", "fox")
    found("fox")
    chat_of(driver, "a fox, two foxes", "three foxes")
    assert driver.window.find_bar.count_text == "3 found"
    driver.window.actions_.new_chat.trigger()
    assert not driver.window.find_bar.isVisible()
    assert not driver.window.actions_.find.isEnabled()


def test_searching_conversations_has_keys_of_its_own(driver):
    driver.window.activateWindow()
    driver.window.actions_.search.trigger()
    assert driver.window.actions_.search.shortcut().toString() == "Ctrl+Shift+F"
    assert driver.window.focusWidget() is driver.window.sidebar.search


FILE = with_attachments("Look at this", [Attachment("notes.txt", "a lantern\nand a Lantern\n")])
THOUGHT = "<think>Where is the lantern?</think>\n\nHere is the lantern."


def test_what_is_folded_is_found_and_unfolded_when_it_is_reached(driver, found, qtbot):
    chat_of(driver, FILE, THOUGHT)
    asked, replied = driver.window.transcript.views
    assert found("lantern") == "1 of 4"
    notes = asked.files[0].text
    assert notes.isVisible()
    assert notes.extraSelections()[0].cursor.selectedText() == "lantern"
    assert not replied.reasoning.text.isVisible()
    assert press(driver, qtbot, Qt.Key.Key_Return) == "2 of 4"
    assert press(driver, qtbot, Qt.Key.Key_Return) == "3 of 4"
    assert replied.reasoning.text.isVisible()
    assert press(driver, qtbot, Qt.Key.Key_Return) == "4 of 4"
    (current,), (other, _) = colours(replied.text), colours(notes)
    assert current != other
    replied.reasoning.toggle.click()
    assert press(driver, qtbot, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier) == "3 of 4"
    assert replied.reasoning.text.isVisible(), "what was folded by hand is unfolded at a place in it"
    driver.click("find_close")
    assert not notes.extraSelections()


def test_what_is_folded_in_messages_that_are_not_built_counts_too(driver, found):
    chat_of(driver, FILE, THOUGHT, *["nothing"] * MANY)
    driver.until(lambda: len(driver.window.transcript.views) == MESSAGES_SHOWN)
    assert found("lantern") == "1 of 4"
    driver.until(lambda: driver.window.transcript.views[0].files[0].text.isVisible())
