"""The database's versions: each migration takes it from one version to the next.

A migration that has been released is never changed; a new one is added below it, with a test of its name in
tests/store/test_migrations.py. JSON in the columns `options` and `figures` follows app.chat: a field that is added
there without a default, renamed or removed needs a migration as well.
"""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    """One step; all its statements take effect, or none."""

    name: str
    statements: tuple[str, ...]


class NewerDatabaseError(Exception):
    """The database was written by a later Nibble than this one."""

    def __init__(self, found: int) -> None:
        super().__init__(f"database version {found}, newest known {VERSION}")
        self.found = found


# AUTOINCREMENT: an id is never given out twice, so that nothing that outlives a conversation (its KV cache in the
# engine, say) can be taken for another's. The trigram index finds parts of words, in every script.
_CONVERSATIONS_AND_MESSAGES = Migration(
    "conversations_and_messages",
    (
        """CREATE TABLE conversation (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            title TEXT NOT NULL,
            model_path TEXT NOT NULL,
            options TEXT NOT NULL,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL
        )""",
        """CREATE TABLE message (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            conversation_id INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
            role TEXT NOT NULL,
            text TEXT NOT NULL,
            state TEXT NOT NULL,
            figures TEXT
        )""",
        "CREATE INDEX message_of_conversation ON message (conversation_id, id)",
        """CREATE VIRTUAL TABLE message_text
            USING fts5 (text, content = 'message', content_rowid = 'id', tokenize = 'trigram')""",
        """CREATE TRIGGER message_added AFTER INSERT ON message BEGIN
            INSERT INTO message_text (rowid, text) VALUES (new.id, new.text);
        END""",
        """CREATE TRIGGER message_removed AFTER DELETE ON message BEGIN
            INSERT INTO message_text (message_text, rowid, text) VALUES ('delete', old.id, old.text);
        END""",
        """CREATE TRIGGER message_changed AFTER UPDATE OF text ON message BEGIN
            INSERT INTO message_text (message_text, rowid, text) VALUES ('delete', old.id, old.text);
            INSERT INTO message_text (rowid, text) VALUES (new.id, new.text);
        END""",
    ),
)

_PINNED_CONVERSATIONS = Migration(
    "pinned_conversations",
    ("ALTER TABLE conversation ADD COLUMN is_pinned INTEGER NOT NULL DEFAULT 0",),
)

_REASONING_TIME = Migration("reasoning_time", ("ALTER TABLE message ADD COLUMN reasoning_s REAL",))

# No cascade from message to message: SQLite follows at most a thousand of them, and a chat may be longer.
_BRANCHES = Migration(
    "branches",
    (
        "ALTER TABLE message ADD COLUMN parent_id INTEGER",
        "ALTER TABLE conversation ADD COLUMN leaf_id INTEGER",
        """UPDATE message SET parent_id = (
            SELECT max(earlier.id) FROM message AS earlier
            WHERE earlier.conversation_id = message.conversation_id AND earlier.id < message.id
        )""",
        """UPDATE conversation SET leaf_id = (
            SELECT max(message.id) FROM message WHERE message.conversation_id = conversation.id
        )""",
        "CREATE INDEX message_of_parent ON message (conversation_id, parent_id)",
    ),
)

# In the order of the list: a search then ends with the last conversation that it returns.
_CONVERSATION_ORDER = Migration(
    "conversation_order", ("CREATE INDEX conversation_order ON conversation (is_pinned, updated_at, id)",)
)

MIGRATIONS = (_CONVERSATIONS_AND_MESSAGES, _PINNED_CONVERSATIONS, _REASONING_TIME, _BRANCHES, _CONVERSATION_ORDER)
"""In order; the first makes version 1 out of an empty file."""

VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection) -> int:
    """Return the database's version, 0 if it is empty."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to `VERSION` in one transaction. Raises NewerDatabaseError, leaving a newer one as it is.

    `connection` is in autocommit mode. Versions are read inside the transaction, since two processes may start at once.
    """
    if version_of(connection) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = version_of(connection)
        if found > VERSION:
            raise NewerDatabaseError(found)
        for migration in MIGRATIONS[found:]:
            for statement in migration.statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
