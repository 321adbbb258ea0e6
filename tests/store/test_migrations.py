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


def test_every_migration_has_a_test_of_its_name() -> None:
    names = [m.name for m in MIGRATIONS]
    assert len(set(names)) == len(names)
    for name in names:
        assert f"test_{name}" in globals(), f"write test_{name}"


def test_conversations_and_messages(connection: sqlite3.Connection) -> None:
    migrate(connection)
    assert version_of(connection) >= 1
    connection.execute("INSERT INTO conversation VALUES (1, 'Title', '/model', '{}', 'then', 'now')")
    connection.execute("INSERT INTO message VALUES (1, 1, 'user', 'first words', 'complete', NULL)")
    connection.execute("INSERT INTO message VALUES (2, 1, 'assistant', 'other words', 'streaming', '{}')")
    assert found(connection, "words") == [1, 2]

    connection.execute("UPDATE message SET text = 'changed' WHERE id = 1")
    assert found(connection, "words") == [2]
    assert found(connection, "hang") == [1], "the index finds parts of words"

    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO message VALUES (3, 99, 'user', 'orphan', 'complete', NULL)")

    connection.execute("DELETE FROM conversation")
    assert connection.execute("SELECT count(*) FROM message").fetchone() == (0,)
    assert found(connection, "words OR changed") == []
    connection.execute("INSERT INTO message_text (message_text) VALUES ('integrity-check')")

    connection.execute("INSERT INTO conversation VALUES (NULL, 'Title', '/model', '{}', 'then', 'now')")
    assert connection.execute("SELECT id FROM conversation").fetchone() == (2,), "ids are never given out twice"


def test_migrating_twice_changes_nothing(connection: sqlite3.Connection) -> None:
    migrate(connection)
    before = connection.execute("SELECT sql FROM sqlite_schema").fetchall()
    migrate(connection)
    assert connection.execute("SELECT sql FROM sqlite_schema").fetchall() == before
    assert version_of(connection) == VERSION


def test_only_missing_migrations_are_run(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(connection)
    connection.execute("INSERT INTO conversation VALUES (1, 'Title', '/model', '{}', 'then', 'now')")
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
