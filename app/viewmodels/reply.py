"""The reply that is being written, and the turns a prompt is made of."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from app.chat.message import Message

SPEEDS_SHOWN = 120
"""Decode speeds kept for the live plot."""


class ChatState(Enum):
    """What the open conversation can do now."""

    NO_MODEL = "no model is open"
    LOADING = "a model is being opened"
    IDLE = "ready for a message"
    PREFILL = "the prompt is being read"
    DECODING = "a reply is being written"
    STOPPING = "a reply is being stopped"
    BUSY = "a reply is being written in another conversation"
    FAILED = "the engine is not running"


@dataclass(slots=True)
class Reply:
    """One reply under way; `pieces` is its text as it came."""

    request_id: str
    conversation_id: int
    conversation_title: str
    message_id: int
    state: ChatState = ChatState.PREFILL
    activity: str = "Reading"
    """What is being done, in words."""
    pieces: list[str] = field(default_factory=list)
    pieces_published: int = 0
    pieces_stored: int = 0
    discarded: bool = False
    """Its conversation was deleted; what still comes is for nobody."""
    speeds: deque[float] = field(default_factory=lambda: deque(maxlen=SPEEDS_SHOWN))

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.pieces)


def turns(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return the messages as chat templates want them: none empty, and speakers taking turns.

    A reply that was stopped before its first word leaves two user messages in a row; they become one.
    """
    made: list[Message] = []
    for message in messages:
        if not message.text.strip():
            continue
        if made and made[-1].role is message.role:
            made[-1] = Message(message.role, f"{made[-1].text}\n\n{message.text}")
        else:
            made.append(message)
    return tuple(made)
