import pytest
from PySide6.QtCore import Qt

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.store.store import Store
from app.viewmodels.conversation_list import CONVERSATION_ROLE, ConversationList


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "chats.sqlite3")
    yield store
    store.close()


def titles(conversations: ConversationList) -> list[str]:
    return [conversation.title for conversation in conversations.conversations]


def rows(conversations: ConversationList) -> list[str]:
    return [conversations.index(row).data() for row in range(conversations.rowCount())]


def test_lists_the_newest_conversation_first(store, qtmodeltester):
    store.create_conversation("older", "", ChatOptions())
    newer = store.create_conversation("newer", "", ChatOptions())
    conversations = ConversationList(store)
    qtmodeltester.check(conversations)
    assert titles(conversations) == ["newer", "older"]
    assert rows(conversations) == ["Today", "newer", "older"]
    assert conversations.index(1).data(CONVERSATION_ROLE).id == newer.id
    assert conversations.row_of(newer.id) == 1
    assert conversations.row_of(99) is None


def test_refresh_shows_what_is_new_and_tells_a_new_title_without_a_reset(store, qtbot):
    first = store.create_conversation("first", "", ChatOptions())
    conversations = ConversationList(store)
    store.create_conversation("second", "", ChatOptions())
    with qtbot.waitSignal(conversations.modelReset):
        conversations.refresh()
    store.rename(first.id, "renamed")
    conversations.refresh()
    assert sorted(titles(conversations)) == ["renamed", "second"]
    before = titles(conversations)
    with qtbot.assertNotEmitted(conversations.modelReset), qtbot.assertNotEmitted(conversations.dataChanged):
        conversations.refresh()
    assert titles(conversations) == before


def test_search_looks_into_titles_and_messages(store):
    fox = store.create_conversation("fox", "", ChatOptions())
    cat = store.create_conversation("cat", "", ChatOptions())
    store.add_message(cat.id, Message(Role.USER, "where is the lantern"))
    conversations = ConversationList(store)
    conversations.search(" lantern ")
    assert titles(conversations) == ["cat"]
    conversations.search("fox")
    assert [c.id for c in conversations.conversations] == [fox.id]
    conversations.search("nothing of the kind")
    assert conversations.rowCount() == 0
    conversations.search("")
    assert titles(conversations) == ["cat", "fox"]


def test_headings_can_be_neither_chosen_nor_taken_for_conversations(store):
    pinned = store.create_conversation("pinned", "", ChatOptions())
    store.create_conversation("other", "", ChatOptions())
    store.set_pinned(pinned.id, True)
    conversations = ConversationList(store)
    assert rows(conversations) == ["Pinned", "pinned", "Today", "other"]
    assert conversations.flags(conversations.index(0)) == Qt.ItemFlag.NoItemFlags
    assert conversations.conversation(0) is None
    assert conversations.index(0).data(CONVERSATION_ROLE) is None
    assert conversations.index(1).data(Qt.ItemDataRole.AccessibleDescriptionRole).startswith("Pinned. Today")


def test_hidden_conversations_are_left_out_of_list_and_search(store):
    one = store.create_conversation("fox one", "", ChatOptions())
    store.create_conversation("fox two", "", ChatOptions())
    conversations = ConversationList(store)
    conversations.hide(frozenset({one.id}))
    assert titles(conversations) == ["fox two"]
    conversations.search("fox")
    assert titles(conversations) == ["fox two"]
    conversations.hide(frozenset())
    assert titles(conversations) == ["fox two", "fox one"]
