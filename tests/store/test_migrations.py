import sqlite3
from collections.abc import Iterator

import pytest

from app.store import migrations
from app.store.migrations import MIGRATIONS, VERSION, Migration, NewerDatabaseError, migrate, version_of


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.execute("PRAGMA foreign_keys = ON")
    yield made
    made.close()


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def found(connection: sqlite3.Connection, query: str) -> list[int]:
    rows = connection.execute("SELECT rowid FROM message_text WHERE message_text MATCH ? ORDER BY rowid", (query,))
    return [rowid for (rowid,) in rows]


def add_conversation(connection: sqlite3.Connection, id_: int | None) -> None:
    columns = "id, title, model_path, options, created_at, updated_at"
    connection.execute(f"INSERT INTO conversation ({columns}) VALUES (?, 'Title', '/model', '{{}}', 't', 'u')", (id_,))


def add_message(connection: sqlite3.Connection, id_: int, rest: str, conversation_id: int = 1) -> None:
    columns = "id, conversation_id, role, text, state, figures"
    connection.execute(f"INSERT INTO message ({columns}) VALUES ({id_}, {conversation_id}, {rest})")


def at_version(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """Bring an empty database to an older version."""
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:version])
        patch.setattr(migrations, "VERSION", version)
        migrate(connection)


def test_every_migration_has_a_test_of_its_name() -> None:
    names = [m.name for m in MIGRATIONS]
    assert len(set(names)) == len(names)
    for name in names:
        assert f"test_{name}" in globals(), f"write test_{name}"


def test_conversations_and_messages(connection: sqlite3.Connection) -> None:
    migrate(connection)
    assert version_of(connection) >= 1
    add_conversation(connection, 1)
    add_message(connection, 1, "'user', 'first words', 'complete', NULL")
    add_message(connection, 2, "'assistant', 'other words', 'streaming', '{}'")
    assert found(connection, "words") == [1, 2]

    connection.execute("UPDATE message SET text = 'changed' WHERE id = 1")
    assert found(connection, "words") == [2]
    assert found(connection, "hang") == [1], "the index finds parts of words"

    with pytest.raises(sqlite3.IntegrityError):
        add_message(connection, 3, "'user', 'orphan', 'complete', NULL", conversation_id=99)

    connection.execute("DELETE FROM conversation")
    assert connection.execute("SELECT count(*) FROM message").fetchone() == (0,)
    assert found(connection, "words OR changed") == []
    connection.execute("INSERT INTO message_text (message_text) VALUES ('integrity-check')")

    add_conversation(connection, None)
    assert connection.execute("SELECT id FROM conversation").fetchone() == (2,), "ids are never given out twice"


def test_pinned_conversations(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    at_version(connection, monkeypatch, 1)
    add_conversation(connection, 1)
    migrate(connection)
    assert connection.execute("SELECT is_pinned FROM conversation").fetchall() == [(0,)]


def test_reasoning_time(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    at_version(connection, monkeypatch, 2)
    add_conversation(connection, 1)
    add_message(connection, 1, "'assistant', 'words', 'complete', NULL")
    migrate(connection)
    assert connection.execute("SELECT reasoning_s FROM message").fetchall() == [(None,)]
    assert found(connection, "words") == [1]


def test_branches(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    at_version(connection, monkeypatch, 3)
    for conversation_id in (1, 2, 3):
        add_conversation(connection, conversation_id)
    for message_id, conversation_id in ((1, 1), (2, 2), (3, 1), (4, 1)):
        add_message(connection, message_id, "'user', 'words', 'complete', NULL", conversation_id)
    migrate(connection)
    parents = connection.execute("SELECT id, parent_id FROM message ORDER BY id").fetchall()
    assert parents == [(1, None), (2, None), (3, 1), (4, 3)]
    assert connection.execute("SELECT id, leaf_id FROM conversation").fetchall() == [(1, 4), (2, 2), (3, None)]
    assert found(connection, "words") == [1, 2, 3, 4]


def test_migrating_twice_changes_nothing(connection: sqlite3.Connection) -> None:
    migrate(connection)
    before = connection.execute("SELECT sql FROM sqlite_schema").fetchall()
    migrate(connection)
    assert connection.execute("SELECT sql FROM sqlite_schema").fetchall() == before
    assert version_of(connection) == VERSION


def test_only_missing_migrations_are_run(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(connection)
    add_conversation(connection, 1)
    added = Migration("colours", ("ALTER TABLE conversation ADD COLUMN colour TEXT",))
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, added))
    monkeypatch.setattr(migrations, "VERSION", VERSION + 1)
    migrate(connection)
    assert version_of(connection) == VERSION + 1
    assert connection.execute("SELECT title, colour FROM conversation").fetchone() == ("Title", None)


def test_a_failing_migration_leaves_the_database_as_it_was(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration("broken", ("CREATE TABLE half (id INTEGER)", "CREATE TABLE half (id INTEGER)"))
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, broken))
    monkeypatch.setattr(migrations, "VERSION", VERSION + 1)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection)
    assert version_of(connection) == 0
    assert tables(connection) == set()
    assert not connection.in_transaction


def test_a_newer_database_is_refused_and_left_alone(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA user_version = {VERSION + 2}")
    with pytest.raises(NewerDatabaseError) as caught:
        migrate(connection)
    assert caught.value.found == VERSION + 2
    assert tables(connection) == set()
    assert version_of(connection) == VERSION + 2
    assert not connection.in_transaction


def test_conversation_order(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    at_version(connection, monkeypatch, 4)
    add_conversation(connection, 1)
    migrate(connection)
    assert version_of(connection) >= 5
    order = "ORDER BY is_pinned DESC, updated_at DESC, id DESC"
    plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT id FROM conversation {order}").fetchall()
    assert "conversation_order" in plan[0][3]
    assert connection.execute(f"SELECT id FROM conversation {order}").fetchall() == [(1,)]
