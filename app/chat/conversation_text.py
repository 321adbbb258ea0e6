"""A conversation as one markdown text."""

from collections.abc import Iterable

from app.chat.message import Message, Role
from app.chat.reasoning import parts_of

_SPEAKERS = {Role.SYSTEM: "System", Role.USER: "You", Role.ASSISTANT: "Nibble"}


def as_markdown(title: str, messages: Iterable[Message]) -> str:
    """Return the conversation with its title and who said what; reasoning and empty messages are left out."""
    parts = [f"# {title}"]
    for message in messages:
        text = parts_of(message.text).answer if message.role is Role.ASSISTANT else message.text
        if text.strip():
            parts.append(f"**{_SPEAKERS[message.role]}**\n\n{text.strip()}")
    return "\n\n".join(parts) + "\n"
