"""The reply that is being written, and the turns a prompt is made of."""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from app.chat.figures import ReplyFigures
from app.chat.message import Message, Role
from app.chat.reasoning import parts_of
from app.engine.protocol import Prefill, Progress
from app.store.store import MessageState, StoredMessage
from app.viewmodels.panel_state import format_speed

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


CLOSED = {
    ChatState.FAILED: "The engine is not running; restart it to go on.",
    ChatState.NO_MODEL: "Open a model to go on.",
}
"""Why nothing can be sent, and what to do about it."""


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
    reasoning_s: float | None = None
    """How long the model has thought aloud; None where it has not."""
    discarded: bool = False
    """Its conversation was deleted; what still comes is for nobody."""
    speeds: deque[float] = field(default_factory=lambda: deque(maxlen=SPEEDS_SHOWN))
    """Tokens per second, each over the time since the one before."""
    _began_s: float = 0.0
    _has_answered: bool = False
    _timed_tokens: int = 0
    _timed_s: float = 0.0

    def message(self, state: MessageState, figures: ReplyFigures | None = None) -> StoredMessage:
        """Return the message with the text so far."""
        message = Message(Role.ASSISTANT, "".join(self.pieces))
        self._time_reasoning(message.text)
        return StoredMessage(self.message_id, message, state, figures, self.reasoning_s)

    def _time_reasoning(self, text: str) -> None:
        """Take the time from the first text to the end of the reasoning; to be called a few times a second."""
        if not text or self._has_answered:
            return
        now_s = time.monotonic()
        self._began_s = self._began_s or now_s
        parts = parts_of(text, is_growing=True)
        self._has_answered = not parts.is_thinking
        if parts.reasoning is not None:
            self.reasoning_s = now_s - self._began_s

    def note_speed(self, generated_tokens: int, tokens_per_s: float) -> None:
        """Note how fast it went since the last note.

        `tokens_per_s` is the average since the first token, by the engine's clock; what was written when follows from
        it, however late its event arrives here.
        """
        tokens = generated_tokens - 1
        took_s = tokens / tokens_per_s if tokens_per_s > 0 else 0.0
        if took_s > self._timed_s:
            self.speeds.append((tokens - self._timed_tokens) / (took_s - self._timed_s))
            self._timed_tokens, self._timed_s = tokens, took_s


def reading_text(event: Prefill) -> str:
    """Say how far the prompt is read."""
    text = f"Reading {event.done_tokens:,} of {event.total_tokens:,} tokens"
    if event.disk_tokens:
        return f"{text}, {event.disk_tokens:,} continued from disk"
    return f"{text}, {event.reused_tokens:,} already in the cache" if event.reused_tokens else text


def writing_text(event: Progress) -> str:
    """Say that the reply is written, and how fast."""
    return f"Writing, {format_speed(event.decode_tokens_per_s)}" if event.decode_tokens_per_s > 0 else "Writing"


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
