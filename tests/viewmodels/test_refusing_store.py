import pytest

from app.engine.protocol import Token
from app.store.store import MessageState
from app.viewmodels.message_writer import RETRY_INTERVAL_MS
from app.viewmodels.reply import ChatState
from tests.chat_parts import FIGURES


@pytest.mark.parametrize(
    ("refused", "command"),
    [
        ("add user", "send"),
        ("add assistant", "send"),
        ("add user", "edit"),
        ("add assistant", "edit"),
        ("add assistant", "regenerate"),
    ],
)
def test_a_turn_the_store_refuses_leaves_everything_as_it_was(ready, refused, command):
    ready.session.send("Tell me a story")
    ready.answer()
    before, shown, asked = ready.stored(), ready.session.messages, len(ready.engine.sent)
    ready.store.refused = frozenset({refused})
    edited = ready.session.last_user_message.id
    again = {
        "send": lambda: ready.session.send("Next"),
        "edit": lambda: ready.session.edit(edited, "Next"),
        "regenerate": ready.session.regenerate,
    }[command]
    assert again() is False
    assert ready.failures == [("disk full", "", "")]
    assert ready.stored() == before
    assert ready.session.messages == shown
    assert len(ready.engine.sent) == asked
    assert ready.session.state is ChatState.IDLE
    ready.store.refused = frozenset()
    assert again()
    ready.answer("Second.")
    said = {"send": ["Tell me a story", "Once upon a time.", "Next"], "edit": ["Next"]}
    assert [text for _, text, _ in ready.stored()] == [*said.get(command, ["Tell me a story"]), "Second."]


def test_a_new_chat_the_store_refuses_is_not_begun(ready):
    ready.store.refused = frozenset({"add assistant"})
    assert ready.session.send("Tell me a story") is False
    assert ready.session.conversation is None
    assert ready.store.conversations() == []


def test_a_finished_reply_the_store_refuses_is_shown_counted_and_stored_later(ready, qtbot):
    ready.session.send("Tell me a story")
    conversation = ready.session.conversation
    ready.store.refused = frozenset({"update"})
    with qtbot.waitSignal(ready.session.reply_finished):
        ready.answer()
    assert ready.session.state is ChatState.IDLE
    assert ready.failures == [("disk full", "", "")]
    assert ready.session.messages[-1].message.text == "Once upon a time."
    ready.session.new_chat()
    ready.session.open(conversation.id)
    assert ready.session.messages[-1].figures == FIGURES, "newer here than in the store"
    qtbot.wait(RETRY_INTERVAL_MS + 100)
    assert len(ready.failures) == 1, "told once"
    ready.store.refused = frozenset()
    qtbot.waitUntil(lambda: ready.stored()[-1] == ("assistant", "Once upon a time.", MessageState.COMPLETE))


def test_the_engines_death_is_told_though_the_store_refuses(ready):
    ready.session.send("Tell me a story")
    ready.say(Token(ready.asked.request_id, "Once", (1,)))
    ready.store.refused = frozenset({"update"})
    ready.engine.died.emit("The engine stopped: killed.", "")
    assert ready.session.state is ChatState.FAILED
    assert ready.failures[-1][0] == "The engine stopped: killed."
    assert ready.session.messages[-1].state is MessageState.FAILED
    ready.store.refused = frozenset()
    ready.session.close()
    assert ready.stored()[-1] == ("assistant", "Once", MessageState.FAILED)


def test_a_deleted_message_that_waits_holds_up_no_other(ready):
    ready.session.send("First")
    ready.store.refused = frozenset({"update"})
    ready.answer()
    ready.store.refused = frozenset()
    ready.session.delete(ready.session.conversation.id)
    ready.session.send("Second")
    ready.answer("Kept.")
    assert ready.stored()[-1] == ("assistant", "Kept.", MessageState.COMPLETE)
    assert len(ready.failures) == 1
