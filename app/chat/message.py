"""Messages: what was said, and by whom."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who speaks, by the names chat templates use."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. Ids belong to the store, not to the value."""

    role: Role
    text: str


def title_from(text: str, limit: int = 48) -> str:
    """Return a conversation title made of the first words of its first message.

    `limit` counts characters; a longer line is cut at a word and ends in an ellipsis.
    """
    line = " ".join(text.split())
    if len(line) <= limit:
        return line or "New chat"
    # One character more than fits: where it is a space, the last word is whole.
    head = line[:limit]
    cut = head.rsplit(" ", 1)[0] if " " in head else line[: limit - 1]
    return (cut.rstrip(" ,.;:") or cut) + "…"
