import pytest

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.engine.protocol import Cancel, Forget
from app.errors import NibbleError
from app.store.store import MessageState
from app.viewmodels.conversation_list import ConversationList
from app.viewmodels.deletions import Deletions


@pytest.fixture
def listed(ready):
    for title in ("first", "second", "third"):
        made = ready.store.create_conversation(title, "", ChatOptions())
        ready.store.add_message(made.id, Message(Role.USER, f"about {title}"))
    return ConversationList(ready.store)


@pytest.fixture
def deletions(ready, listed):
    return Deletions(ready.session, listed)


def titles(listed) -> list[str]:
    return [conversation.title for conversation in listed.conversations]


def test_the_row_is_gone_at_once_and_the_data_when_the_time_is_over(ready, listed, deletions, qtbot):
    second = listed.conversations[1]
    with qtbot.waitSignal(deletions.offered) as offered:
        deletions.delete(second.id, second.title)
    assert offered.args == ["“second” was deleted."]
    assert titles(listed) == ["third", "first"]
    assert len(ready.store.messages(second.id)) == 1
    deletions._timer.setInterval(0)
    with qtbot.waitSignal(deletions.ended):
        deletions._timer.start()
    assert titles(listed) == ["third", "first"]
    assert [c.title for c in ready.store.conversations()] == ["third", "first"]
    assert ready.engine.sent_of(Forget)[-1].chat_id == f"chat-{second.id}"
    assert not deletions.can_undo


def test_undo_restores_the_place_and_what_was_open(ready, listed, deletions):
    second = listed.conversations[1]
    ready.session.open(second.id)
    deletions.delete(second.id, second.title)
    assert ready.session.conversation is None
    deletions.undo()
    assert titles(listed) == ["third", "second", "first"]
    assert ready.session.conversation.id == second.id
    assert ready.session.messages[0].message.text == "about second"
    assert ready.engine.sent_of(Forget) == []


def test_undo_leaves_what_was_opened_meanwhile(ready, listed, deletions):
    third, second, _ = listed.conversations
    ready.session.open(second.id)
    deletions.delete(second.id, second.title)
    ready.session.open(third.id)
    deletions.undo()
    assert ready.session.conversation.id == third.id


def test_several_are_undone_together(listed, deletions, qtbot):
    third, second, _ = listed.conversations
    deletions.delete(second.id, second.title)
    with qtbot.waitSignal(deletions.offered) as offered:
        deletions.delete(third.id, third.title)
    assert offered.args == ["2 chats were deleted."]
    assert titles(listed) == ["first"]
    deletions.undo()
    assert titles(listed) == ["third", "second", "first"]


def test_a_reply_is_stopped_and_comes_back_with_what_was_written(ready, listed, deletions):
    ready.session.send("Tell me a story")
    open_now = ready.session.conversation
    listed.refresh()
    deletions.delete(listed.conversations[0].id, listed.conversations[0].title)
    assert ready.engine.sent_of(Cancel)
    ready.answer("Once")
    deletions.undo()
    assert ready.session.conversation.id == open_now.id
    assert ready.stored()[-1] == ("assistant", "Once", MessageState.COMPLETE)


def test_the_end_of_the_program_ends_the_time(ready, listed, deletions):
    deletions.delete(listed.conversations[0].id, listed.conversations[0].title)
    deletions.close()
    assert [c.title for c in ready.store.conversations()] == ["second", "first"]


def test_what_the_store_refuses_to_delete_is_listed_again(ready, listed, deletions, monkeypatch, caplog):
    def refuse(_: int) -> None:
        raise NibbleError("disk full")

    monkeypatch.setattr(ready.store, "delete", refuse)
    deletions.delete(listed.conversations[0].id, listed.conversations[0].title)
    with pytest.raises(NibbleError, match="disk full"):
        deletions.finish()
    assert titles(listed) == ["third", "second", "first"]
    deletions.delete(listed.conversations[0].id, listed.conversations[0].title)
    deletions.close()
    assert "disk full" in caplog.text
