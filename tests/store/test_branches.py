"""Branches of a conversation: what was said before a message was edited or a reply written again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.errors import NibbleError
from app.store.store import Conversation, MessageState, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "nibble.sqlite3")
    yield made
    made.close()


@pytest.fixture
def chat(store: Store) -> Conversation:
    made = store.create_conversation("Chat", "", ChatOptions())
    say(store, made, "a", "b", "c", "d")
    return made


def say(store: Store, chat: Conversation, *texts: str) -> list[int]:
    return [store.add_message(chat.id, Message(Role.USER, text)).id for text in texts]


def said(store: Store, chat: Conversation) -> str:
    return "".join(m.message.text for m in store.messages(chat.id))


def ids(store: Store, chat: Conversation) -> list[int]:
    return [m.id for m in store.messages(chat.id)]


def test_what_followed_an_edited_message_is_kept_and_can_be_opened(store: Store, chat: Conversation) -> None:
    _, _, c, _ = ids(store, chat)
    assert store.branches(chat.id) == {}
    store.branch_before(c)
    assert said(store, chat) == "ab"
    x, _ = say(store, chat, "x", "y")
    assert said(store, chat) == "abxy"
    assert store.branches(chat.id) == {x: (c, x)}
    store.open_branch(c)
    assert said(store, chat) == "abcd"
    assert store.branches(chat.id) == {c: (c, x)}
    say(store, chat, "e")
    assert said(store, chat) == "abcde"
    store.open_branch(x)
    assert said(store, chat) == "abxy"


def test_the_first_message_has_versions_too_and_none_of_another_chat(store: Store, chat: Conversation) -> None:
    other = store.create_conversation("Other", "", ChatOptions())
    say(store, other, "o")
    a = ids(store, chat)[0]
    store.branch_before(a)
    assert said(store, chat) == ""
    (z,) = say(store, chat, "z")
    assert store.branches(chat.id) == {z: (a, z)}
    assert store.branches(other.id) == {}


def test_branches_grow_from_branches_and_the_last_one_written_in_is_opened(store: Store, chat: Conversation) -> None:
    a, b, c, d = ids(store, chat)
    store.branch_before(d)
    (e,) = say(store, chat, "e")
    store.branch_before(b)
    (f,) = say(store, chat, "f")
    assert said(store, chat) == "af"
    store.open_branch(b)
    assert said(store, chat) == "abce"
    assert store.branches(chat.id) == {b: (b, f), e: (d, e)}
    assert ids(store, chat) == [a, b, c, e]


def test_all_branches_are_searched_and_recovered(store: Store, chat: Conversation) -> None:
    say(store, chat, "lantern")
    store.add_message(chat.id, Message(Role.ASSISTANT, "half"), MessageState.STREAMING)
    first = ids(store, chat)[0]
    store.branch_before(first)
    say(store, chat, "other words")
    assert [c.id for c in store.search("lantern")] == [chat.id]
    assert store.recover() == 1
    store.open_branch(first)
    assert store.messages(chat.id)[-1].state is MessageState.CANCELLED


def test_deleting_takes_every_branch_behind_the_message_and_no_other(store: Store, chat: Conversation) -> None:
    _, b, c, _ = ids(store, chat)
    store.branch_before(c)
    say(store, chat, "lantern")
    store.branch_before(b)
    say(store, chat, "k")
    store.delete_from(b)
    assert store.search("lantern") == []
    assert said(store, chat) == "a"
    say(store, chat, "l")
    assert said(store, chat) == "al"
    assert len(store.branches(chat.id)) == 1
    store.delete(chat.id)
    assert store.search("l") == []


def test_long_chats_are_read_and_deleted_whole(store: Store, chat: Conversation) -> None:
    with store.together():
        say(store, chat, *["m"] * 3000)
    assert len(store.messages(chat.id)) == 3004
    store.delete_from(ids(store, chat)[1])
    assert said(store, chat) == "a"
    store.delete(chat.id)


def test_a_branch_of_what_is_gone_is_told(store: Store) -> None:
    for call in (store.branch_before, store.open_branch):
        with pytest.raises(NibbleError, match="no longer exists"):
            call(99)
