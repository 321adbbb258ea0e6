"""Conversations for the tests of the store."""

from pathlib import Path

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.store.store import Conversation, Store


def user(text: str) -> Message:
    return Message(Role.USER, text)


def chat(store: Store, title: str, *texts: str) -> Conversation:
    made = store.create_conversation(title, "/model", ChatOptions())
    for text in texts:
        store.add_message(made.id, user(text))
    return store.conversation(made.id)


def titles(conversations: list[Conversation]) -> list[str]:
    return [c.title for c in conversations]


def reopened(store: Store, path: Path) -> Store:
    store.close()
    return Store(path)
