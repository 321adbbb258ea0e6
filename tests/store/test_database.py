import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.errors import NibbleError
from app.store.database import Database
from app.store.migrations import VERSION
from app.store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nibble.sqlite3"


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    is_root = os.geteuid() == 0
    folder.chmod(0o500)
    if is_root:
        os.seteuid(65534)  # root may write everywhere
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)


def spoil(path: Path) -> None:
    """Write nonsense over every page but the first."""
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = random.Random(page).randbytes(200)
    path.write_bytes(content)


def count(database: Database) -> int:
    ((number,),) = database.rows("SELECT count(*) FROM conversation")
    return int(number)


def add(database: Database, title: str) -> None:
    with database.transaction() as connection:
        columns = "title, model_path, options, created_at, updated_at"
        connection.execute(f"INSERT INTO conversation ({columns}) VALUES (?, '', '{{}}', '', '')", (title,))


def test_a_new_file_is_made_with_write_ahead_log_and_foreign_keys(path: Path) -> None:
    database = Database(path)
    assert database.notice == ""
    assert database.rows("PRAGMA journal_mode") == [("wal",)]
    assert database.rows("PRAGMA foreign_keys") == [(1,)]
    assert database.rows("PRAGMA user_version") == [(VERSION,)]
    database.close()
    assert [p.name for p in path.parent.iterdir()] == ["nibble.sqlite3"], "the log is merged at the end"


def test_a_transaction_takes_effect_whole_or_not_at_all(path: Path) -> None:
    database = Database(path)
    add(database, "kept")

    def stop_halfway() -> None:
        with database.transaction() as connection:
            connection.execute("DELETE FROM conversation")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        stop_halfway()
    assert count(database) == 1
    add(database, "the next one works")
    assert count(database) == 2
    database.close()


@pytest.mark.parametrize("content", [b"no database", b"no database" * 1000, random.Random(1).randbytes(8192)])
def test_a_file_that_is_no_database_is_moved_aside(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = Store(path)
    (kept,) = [p for p in path.parent.iterdir() if ".broken-" in p.name]
    assert kept.read_bytes() == content
    assert str(kept) in store.notice
    assert store.conversations() == []
    store.create_conversation("works", "", ChatOptions())
    store.close()

    again = Store(path)
    assert again.notice == ""
    assert len(again.conversations()) == 1
    again.close()


def test_a_damaged_database_is_moved_aside_with_its_log(path: Path) -> None:
    store = Store(path)
    one = store.create_conversation("One", "", ChatOptions())
    for _ in range(50):
        store.add_message(one.id, Message(Role.USER, "text " * 500))
    store.close()
    holder = sqlite3.connect(path)
    holder.execute("SELECT count(*) FROM message").fetchone()
    spoil(path)
    content = path.read_bytes()

    store = Store(path)
    assert "damaged" in store.notice
    assert store.conversations() == []
    store.close()
    holder.close()
    (kept,) = [p for p in path.parent.iterdir() if ".broken-" in p.name and p.suffix == ".sqlite3"]
    assert kept.read_bytes() == content
    assert kept.with_name(kept.name + "-wal").exists()
    assert str(kept) in store.notice


def test_a_newer_database_is_refused_with_both_versions_and_left_as_it_is(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {VERSION + 6}")
    other.execute("CREATE TABLE conversation (id INTEGER, of_the_future TEXT)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(NibbleError) as caught:
        Store(path)
    assert f"version {VERSION + 6}" in caught.value.message
    assert f"up to {VERSION}" in caught.value.message
    assert caught.value.hint
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(NibbleError, match="unable to open database file") as caught:
        Store(tmp_path / "missing" / "nibble.sqlite3")
    assert "missing" in caught.value.hint


def test_a_read_only_folder_is_told(path: Path) -> None:
    with read_only(path.parent), pytest.raises(NibbleError, match="unable to open database file"):
        Store(path)
    assert list(path.parent.iterdir()) == []


def test_a_store_that_became_read_only_is_told_and_still_reads(path: Path) -> None:
    database = Database(path)
    add(database, "kept")
    database.rows("PRAGMA query_only = ON")
    with pytest.raises(NibbleError, match="readonly"):
        add(database, "not this one")
    assert count(database) == 1
    database.close()


def test_a_full_disk_is_told_and_loses_nothing(path: Path) -> None:
    database = Database(path)
    add(database, "kept")
    ((pages,),) = database.rows("PRAGMA page_count")
    database.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(NibbleError, match="full") as caught:
        add(database, "x" * 1_000_000)
    assert "disk is not full" in caught.value.hint
    assert count(database) == 1
    database.rows("PRAGMA max_page_count = 1000000")
    add(database, "room again")
    assert count(database) == 2
    database.close()


def test_another_program_that_holds_the_file_is_told(path: Path) -> None:
    database = Database(path)
    database.rows("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(NibbleError, match="locked"):
        add(database, "not now")
    other.execute("ROLLBACK")
    other.close()
    add(database, "now")
    assert count(database) == 1
    database.close()


def test_our_own_mistakes_are_not_blamed_on_the_world(path: Path) -> None:
    database = Database(path)
    with pytest.raises(sqlite3.ProgrammingError):
        database.rows("SELECT ?", ())
    with pytest.raises(sqlite3.IntegrityError), database.transaction() as connection:
        connection.execute("INSERT INTO message (conversation_id, role, text, state) VALUES (99, '', '', '')")
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        database.rows("SELECT 1")


def test_damage_that_shows_in_use_is_told_and_the_file_kept_aside_at_the_next_start(path: Path) -> None:
    store = Store(path)
    one = store.create_conversation("One", "", ChatOptions())
    for _ in range(50):
        store.add_message(one.id, Message(Role.USER, "text " * 500))
    store.close()
    spoil(path)

    store = Store(path)
    assert store.notice == "", "a file that was closed in order is not read through"
    with pytest.raises(NibbleError, match="damaged") as caught:
        store.messages(one.id)
    assert "start it again" in caught.value.hint
    store.close()

    store = Store(path)
    assert "damaged" in store.notice
    assert store.conversations() == []
    store.close()
    again = Store(path)
    assert again.notice == ""
    again.close()
    assert len([p for p in path.parent.iterdir() if ".broken-" in p.name and p.suffix == ".sqlite3"]) == 1


def test_a_sound_file_in_doubt_is_checked_once(path: Path) -> None:
    store = Store(path)
    store.create_conversation("One", "", ChatOptions())
    store.close()
    path.with_name(path.name + "-doubt").touch()
    store = Store(path)
    assert [c.title for c in store.conversations()] == ["One"]
    store.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
