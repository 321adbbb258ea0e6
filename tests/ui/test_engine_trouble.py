"""Whatever the engine does, slow, deaf or dead: the window does all that needs no engine, and the way back is open."""

import pytest
from PySide6.QtWidgets import QDialog

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.store.store import MessageState
from app.viewmodels import reply_run
from app.viewmodels.reply import ChatState


@pytest.fixture
def stored(driver) -> int:
    made = driver.program.store.create_conversation("A quiet garden", "", ChatOptions())
    driver.program.store.add_message(made.id, Message(Role.USER, "What grows in the shade?"))
    driver.program.store.add_message(made.id, Message(Role.ASSISTANT, "Ferns, `hostas`."), MessageState.COMPLETE)
    driver.program.models.conversations.refresh()
    return made.id


def use_everything(driver, stored: int) -> None:
    """Use all of the window that needs no engine; where anything waited for one, this would not come back."""
    window, actions, models = driver.window, driver.window.actions_, driver.program.models
    window.sidebar.opened.emit(stored)
    assert driver.texts() == ["What grows in the shade?", "Ferns, hostas."]
    window.sidebar.search.setText("hostas")
    driver.until(lambda: models.conversations.row_of(stored) is not None and models.conversations.rowCount() == 2)
    window.sidebar.search.clear()
    actions.find.trigger()
    window.find_bar.edit.setText("ferns")
    assert window.find_bar.count_text == "1 of 1"
    window.chat_find.close()
    actions.pin.trigger()
    assert models.session.conversation.is_pinned
    actions.pin.trigger()
    actions.copy_chat.trigger()
    for name in ("settings", "options", "stats", "about"):
        getattr(actions, name).trigger()
        dialog = driver.find(f"{name}_window" if name == "stats" else f"{name}_dialog", QDialog)
        assert dialog.isVisible()
        dialog.close()
    actions.bigger.trigger()
    actions.usual_size.trigger()
    actions.panel.trigger()
    actions.panel.trigger()
    actions.new_chat.trigger()
    window.composer.write("A draft")
    assert window.composer.text == "A draft"
    window.composer.edit.clear()


def test_while_the_engine_is_slow_everything_else_goes_on(driver, stored, tmp_path):
    driver.say("word " * 400 + "[prefill-ms 400] [tokens 4]")
    mine = driver.session.conversation.id
    driver.until(lambda: driver.session.state is ChatState.PREFILL)
    use_everything(driver, stored)
    assert "still writing in" in driver.window.composer.status_text
    driver.session.open(mine)
    assert driver.session.state is ChatState.PREFILL, "all this took less time than the prompt"
    driver.session.stop()
    driver.until_idle()
    slow = tmp_path / "huge [load-ms 2000]"
    slow.mkdir()
    driver.session.load_model(str(slow))
    use_everything(driver, stored)
    assert driver.session.state is ChatState.LOADING
    driver.session.stop()
    driver.until_idle()
    assert driver.window.header.picker.text() == "Starter"


def test_while_the_engine_is_deaf_everything_else_goes_on_and_it_can_be_ended(driver, stored):
    driver.session._run._patience.setInterval(20)
    driver.say("Hello [tokens 9] [hang decode]")
    mine = driver.session.conversation.id
    driver.until(lambda: driver.session.state is ChatState.DECODING)
    use_everything(driver, stored)
    driver.session.open(mine)
    driver.window.actions_.stop.trigger()
    driver.until(lambda: driver.window.composer.status_text == reply_run.DEAF)
    use_everything(driver, stored)
    driver.session.open(mine)
    assert driver.window.actions_.restart.isEnabled()
    driver.window.actions_.restart.trigger()
    driver.until_idle()
    assert driver.session.messages[-1].state is MessageState.FAILED
    assert driver.texts()[1] != ""
    driver.chat("Still there?")
    assert driver.session.messages[-1].state is MessageState.COMPLETE


def test_while_the_engine_is_dead_everything_else_goes_on(driver, stored):
    driver.say("Hello [tokens 9] [abort decode]")
    driver.until(lambda: driver.session.state is ChatState.FAILED)
    use_everything(driver, stored)
    assert driver.find("restart_engine").isVisible(), "whatever notice is shown offers it"
    driver.session.new_chat()
    assert driver.find("empty_restart").isVisible()
    driver.click("empty_restart")
    driver.until_idle()
    driver.chat("Still there?")
    assert driver.session.messages[-1].state is MessageState.COMPLETE
