"""Conversations and messages, kept in one SQLite file."""

import functools
import json
import logging
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from app.chat.figures import ReplyFigures
from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.chat.plain import PlainError, from_plain, to_plain
from app.errors import NibbleError
from app.store.database import Database
from app.store.search import IN_ORDER, clauses

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_CONVERSATIONS = "SELECT id, title, model_path, options, created_at, updated_at, is_pinned FROM conversation"
_MESSAGES = "SELECT id, role, text, state, figures, reasoning_s FROM message"

# From the message that a conversation ends with back to its first.
_PATH = """WITH RECURSIVE path (id, parent_id) AS (
    SELECT message.id, message.parent_id FROM message
    JOIN conversation ON conversation.leaf_id = message.id WHERE conversation.id = ?
    UNION
    SELECT message.id, message.parent_id FROM message JOIN path ON message.id = path.parent_id
)"""
# A message and all that was said after it, in whatever branch.
_BRANCH = """WITH RECURSIVE branch (id) AS (
    SELECT ?
    UNION
    SELECT message.id FROM message JOIN branch ON message.conversation_id = ? AND message.parent_id = branch.id
)"""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One chat, without its messages. Times are UTC, ISO 8601; `updated_at` is when its messages last changed."""

    id: int
    title: str
    model_path: str
    options: ChatOptions
    created_at: str
    updated_at: str
    is_pinned: bool = False


class ListedConversation(NamedTuple):
    """As much of a conversation as a list shows; thousands are read at once."""

    id: int
    title: str
    updated_at: str
    is_pinned: int


class MessageState(StrEnum):
    """Whether a message is as its writer meant it."""

    COMPLETE = "complete"
    STREAMING = "streaming"
    """The reply is being written."""
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message with its place in the store. Finished replies have figures."""

    id: int
    message: Message
    state: MessageState
    figures: ReplyFigures | None
    reasoning_s: float | None = None
    """How long the model thought aloud, where it did and that was timed."""


_ROLES: dict[Any, Role] = {role.value: role for role in Role}
_STATES: dict[Any, MessageState] = {state.value: state for state in MessageState}


class GoneError(NibbleError):
    """The conversation or message was deleted meanwhile."""


class Store:
    """All conversations, in the database at `path`. To be used on the thread that made it.

    `notice` is a sentence for the person if a broken file had to be moved aside, "" otherwise; `is_new` tells whether
    the file was begun just now, so that no id of an earlier one means the same here. Every method raises NibbleError
    where the disk or another program is in the way, and GoneError where a conversation or message no longer exists.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)
        self.notice = self._database.notice
        self.is_new = self._database.is_new

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make all writes inside take effect together, or, if anything is raised, none of them."""
        with self._database.transaction():
            yield

    def conversations(self) -> list[Conversation]:
        """Return all conversations, pinned ones first, then the last changed."""
        return [_conversation(row) for row in self._database.rows(f"{_CONVERSATIONS} {IN_ORDER}")]

    def listed(self, text: str = "") -> list[ListedConversation]:
        """Return what `search` finds, in short; without words, all."""
        where, values = clauses(self._database, _storable(text))
        sql = f"SELECT id, title, updated_at, is_pinned FROM conversation {where}"
        rows = map(ListedConversation._make, self._database.rows(sql, values))
        return [row if type(row.title) is type(row.updated_at) is str else _mended(row) for row in rows]

    def search(self, text: str) -> list[Conversation]:
        """Return the conversations in which every word of `text` occurs, in the title or a message; order as above.

        Words are taken as they are, in upper or lower case, and may be parts of longer ones. At most
        `search.MOST_FOUND` are returned: who searches for a letter has only begun to type. For words of one or two
        characters only messages of pinned conversations and of the 500 changed last are read.
        """
        where, values = clauses(self._database, _storable(text))
        return [_conversation(row) for row in self._database.rows(f"{_CONVERSATIONS} {where}", values)]

    def conversation(self, conversation_id: int) -> Conversation:
        """Return one conversation."""
        rows = self._database.rows(f"{_CONVERSATIONS} WHERE id = ?", (conversation_id,))
        if not rows:
            raise _gone("conversation")
        return _conversation(rows[0])

    def create_conversation(self, title: str, model_path: str, options: ChatOptions) -> Conversation:
        """Add an empty conversation."""
        now = _now()
        with self._database.transaction() as connection:
            added = connection.execute(
                "INSERT INTO conversation (title, model_path, options, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
                (_storable(title), _storable(model_path), _json(options), now, now),
            ).lastrowid
        assert added is not None
        return self.conversation(added)

    def rename(self, conversation_id: int, title: str) -> None:
        """Give a conversation another title."""
        with self._database.transaction() as connection:
            _set(connection, conversation_id, "title", _storable(title))

    def set_options(self, conversation_id: int, options: ChatOptions) -> None:
        """Give a conversation other options."""
        with self._database.transaction() as connection:
            _set(connection, conversation_id, "options", _json(options))

    def set_model(self, conversation_id: int, model_path: str) -> None:
        """Say which model a conversation goes on with."""
        with self._database.transaction() as connection:
            _set(connection, conversation_id, "model_path", _storable(model_path))

    def set_pinned(self, conversation_id: int, is_pinned: bool) -> None:
        """Keep a conversation at the head of the list, or no longer."""
        with self._database.transaction() as connection:
            _set(connection, conversation_id, "is_pinned", is_pinned)

    def delete(self, conversation_id: int) -> None:
        """Delete a conversation with all its messages; one that is gone already is no error."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM conversation WHERE id = ?", (conversation_id,))

    def messages(self, conversation_id: int) -> list[StoredMessage]:
        """Return a conversation's messages in the branch that is open, the first said first."""
        rows = self._database.rows(
            f"{_PATH} {_MESSAGES} WHERE id IN (SELECT id FROM path) ORDER BY id", (conversation_id,)
        )
        return [_message(row) for row in rows]

    def branches(self, conversation_id: int) -> dict[int, tuple[int, ...]]:
        """Return, for each message of the open branch that has others in its place, their ids and its own, in order."""
        rows = self._database.rows(
            f"""{_PATH} SELECT path.id, other.id FROM path
            JOIN message AS other ON other.conversation_id = ? AND other.parent_id IS path.parent_id
            ORDER BY path.id, other.id""",
            (conversation_id, conversation_id),
        )
        found: dict[int, tuple[int, ...]] = {}
        for message_id, other_id in rows:
            found[message_id] = (*found.get(message_id, ()), other_id)
        return {message_id: ids for message_id, ids in found.items() if len(ids) > 1}

    def branch_before(self, message_id: int) -> None:
        """Let the conversation go on from before a message; that and what followed are kept as a branch."""
        with self._database.transaction() as connection:
            conversation_id, parent_id = _place_of(connection, message_id)
            _set(connection, conversation_id, "leaf_id", parent_id)

    def open_branch(self, message_id: int) -> None:
        """Open the branch with this message, up to what was said last after it."""
        with self._database.transaction() as connection:
            conversation_id, _ = _place_of(connection, message_id)
            row = connection.execute(f"{_BRANCH} SELECT max(id) FROM branch", (message_id, conversation_id)).fetchone()
            _set(connection, conversation_id, "leaf_id", row[0])

    def add_message(
        self, conversation_id: int, message: Message, state: MessageState = MessageState.COMPLETE
    ) -> StoredMessage:
        """Append a message to the open branch of a conversation."""
        with self._database.transaction() as connection:
            _set(connection, conversation_id, "updated_at", _now())
            added = connection.execute(
                """INSERT INTO message (conversation_id, role, text, state, parent_id)
                SELECT id, ?, ?, ?, leaf_id FROM conversation WHERE id = ?""",
                (message.role.value, _storable(message.text), state.value, conversation_id),
            ).lastrowid
            _set(connection, conversation_id, "leaf_id", added)
        assert added is not None
        return self._stored_message(added)

    def update_message(
        self,
        message_id: int,
        *,
        text: str,
        state: MessageState,
        figures: ReplyFigures | None = None,
        reasoning_s: float | None = None,
    ) -> StoredMessage:
        """Replace all of a message but its speaker."""
        with self._database.transaction() as connection:
            _set(connection, _place_of(connection, message_id)[0], "updated_at", _now())
            connection.execute(
                "UPDATE message SET text = ?, state = ?, figures = ?, reasoning_s = ? WHERE id = ?",
                (_storable(text), state.value, None if figures is None else _json(figures), reasoning_s, message_id),
            )
        return self._stored_message(message_id)

    def delete_from(self, message_id: int) -> None:
        """Delete a message and all that was said after it; the conversation goes on from before it."""
        with self._database.transaction() as connection:
            conversation_id, parent_id = _place_of(connection, message_id)
            _set(connection, conversation_id, "updated_at", _now())
            _set(connection, conversation_id, "leaf_id", parent_id)
            connection.execute(
                f"{_BRANCH} DELETE FROM message WHERE id IN (SELECT id FROM branch)", (message_id, conversation_id)
            )

    def recover(self) -> int:
        """Mark replies that the program did not live to finish as cancelled; return how many there were.

        To be called at start, while no reply is being written.
        """
        with self._database.transaction() as connection:
            return connection.execute(
                "UPDATE message SET state = ? WHERE state = ?",
                (MessageState.CANCELLED.value, MessageState.STREAMING.value),
            ).rowcount

    def _stored_message(self, message_id: int) -> StoredMessage:
        rows = self._database.rows(f"{_MESSAGES} WHERE id = ?", (message_id,))
        if not rows:
            raise _gone("message")
        return _message(rows[0])


def _set(connection: sqlite3.Connection, conversation_id: int, column: str, value: str | int | None) -> None:
    changed = connection.execute(f"UPDATE conversation SET {column} = ? WHERE id = ?", (value, conversation_id))
    if not changed.rowcount:
        raise _gone("conversation")


def _place_of(connection: sqlite3.Connection, message_id: int) -> tuple[int, int | None]:
    """Return the ids of a message's conversation and of the message before it."""
    row = connection.execute("SELECT conversation_id, parent_id FROM message WHERE id = ?", (message_id,)).fetchone()
    if row is None:
        raise _gone("message")
    return row[0], row[1]


def _gone(what: str) -> GoneError:
    return GoneError(f"This {what} no longer exists.", "It may have been deleted in another Nibble window.")


def _conversation(row: tuple[Any, ...]) -> Conversation:
    (id_, title, model_path, options, created_at, updated_at, is_pinned) = row
    read = _options(options)
    if read is None:
        _log.warning("options of conversation %d cannot be read", id_)
    texts = map(_text, (title, model_path, created_at, updated_at))
    title, model_path, created_at, updated_at = texts
    return Conversation(id_, title, model_path, read or ChatOptions(), created_at, updated_at, bool(is_pinned))


def _mended(row: ListedConversation) -> ListedConversation:
    return row._replace(title=_text(row.title), updated_at=_text(row.updated_at))


def _message(row: tuple[Any, ...]) -> StoredMessage:
    (id_, role, text, state, figures, reasoning_s) = row
    read = None if figures is None else _read(ReplyFigures, figures, f"figures of message {id_}")
    if role not in _ROLES or state not in _STATES or not isinstance(text, str):
        _log.warning("message %d is spoiled", id_)
    message = Message(_ROLES.get(role, Role.ASSISTANT), _text(text))
    time_s = reasoning_s if isinstance(reasoning_s, float) and math.isfinite(reasoning_s) else None
    return StoredMessage(id_, message, _STATES.get(state, MessageState.COMPLETE), read, time_s)


def _text(value: Any) -> str:
    """Return a text of the database: SQLite keeps any value anywhere, and a spoiled one must not hide the rest."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value)


@functools.lru_cache(maxsize=512)
def _options(text: str) -> ChatOptions | None:
    """Read options once: those of thousands of conversations are a handful of texts, and checking one takes 50 us."""
    try:
        value: ChatOptions = from_plain(ChatOptions, json.loads(text))
    except (PlainError, ValueError, TypeError, RecursionError):
        return None
    return value


def _read(cls: type[_T], text: str, what: str) -> _T | None:
    """Build a `cls` from JSON, or None: one spoiled value must not hide what was said."""
    try:
        value: _T = from_plain(cls, json.loads(text))
    except (PlainError, ValueError, TypeError, RecursionError):
        _log.warning("%s cannot be read", what)
        return None
    return value


def _json(value: ChatOptions | ReplyFigures) -> str:
    return json.dumps(to_plain(value))


def _storable(text: str) -> str:
    """Return `text` with what SQLite cannot hold or the index cannot take (half surrogate pairs, NUL) replaced."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
