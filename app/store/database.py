"""One connection to the SQLite file: opened, brought up to date, and with errors a person can read."""

import functools
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from app.errors import NibbleError
from app.paths import move_aside
from app.store.migrations import VERSION, NewerDatabaseError, migrate, version_of

_log = logging.getLogger(__name__)

BUSY_MS = 250
"""How long a read or write waits for another program that holds the file; the window stands still meanwhile."""

_READ = {
    "conversation": "id, title, model_path, options, created_at, updated_at, is_pinned, leaf_id",
    "message": "id, conversation_id, role, text, state, figures, reasoning_s, parent_id",
}
"""What a file of our version must hold, read off its schema alone."""


class Database:
    """The file at `path`, made if need be and brought to the newest version. For the thread that opened it.

    A file that is no database, or a damaged one, is moved aside; `notice` then says so. Whether all of it is sound is
    looked into where it was not closed in order the last time, or turned out damaged in use: of a million messages that
    takes seconds. Raises NibbleError, here and in all methods, where the disk or another program is in the way, and for
    a database from a newer Nibble.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.notice = ""
        with self._explained():
            try:
                self._connection, self.is_new = _opened(path)
            except NewerDatabaseError as error:
                raise NibbleError(
                    f"The conversations come from a newer Nibble: {path} has version {error.found}, "
                    f"this Nibble reads up to {VERSION}.",
                    "Update Nibble, or move that file elsewhere to start afresh.",
                ) from error
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                    raise
                _log.warning("%s is broken: %s", path, error)
                aside = _moved_aside(path)
                self._connection, self.is_new = _opened(path)
                self.notice = (
                    "The conversations could not be read: their file is damaged or no database. "
                    f"It was kept as {aside}, and a new one begun."
                )

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self._explained():
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Make the writes inside take effect together, or, if anything is raised, not at all.

        A transaction inside another is part of it.
        """
        with self._explained():
            is_inner = self._connection.in_transaction
            if is_inner:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                # False after the commit, and where SQLite has rolled back by itself, as on a full disk.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
            raise  # ours, not the world's
        except (sqlite3.DatabaseError, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._damaged(error) from error
            raise NibbleError(
                f"The conversations could not be read or written: {error}.",
                f"Check that {self._path} may be written, that the disk is not full and that no other Nibble is busy "
                "with the file, then try again.",
            ) from error

    def _damaged(self, error: Exception) -> NibbleError:
        with suppress(OSError):
            _doubt(self._path).touch(mode=0o600)
        return NibbleError(
            f"The file of the conversations is damaged: {error}.",
            f"Copy {self._path} elsewhere if you can, then quit Nibble and start it again: it will keep the damaged "
            "file under another name, and begin a new one.",
        )


def _doubt(path: Path) -> Path:
    """Return the file whose existence says that the database is to be checked when it is next opened."""
    return path.with_name(f"{path.name}-doubt")


def _is_in_doubt(path: Path) -> bool:
    # SQLite takes its log away when the last connection is closed.
    with suppress(OSError):
        return _doubt(path).exists() or path.with_name(f"{path.name}-wal").exists()
    return False  # connecting will say why


def _opened(path: Path) -> tuple[sqlite3.Connection, bool]:
    """Connect; tell whether the file was empty.

    Raises sqlite3.OperationalError where the file is out of reach, DatabaseError where it is broken. Another program's
    database is broken for us; sqlite3 tells of its tables as an OperationalError with SQLITE_ERROR.
    """
    in_doubt = _is_in_doubt(path)
    connection = sqlite3.connect(path, isolation_level=None)
    # One text that is spoiled must not hide the others; SQLite itself does not look at what it keeps.
    connection.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
    try:
        # Before anything is written: a newer or a broken file is left as it is.
        found = version_of(connection)
        if found > VERSION:
            raise NewerDatabaseError(found)
        if in_doubt:
            (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if finding != "ok":
                raise sqlite3.DatabaseError(finding)
            _doubt(path).unlink(missing_ok=True)
        _check_tables(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # SQLite's own lower() and LIKE know ASCII only.
        connection.create_function("folded", 1, _folded, deterministic=True)
        migrate(connection)
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    except BaseException:
        connection.close()
        raise
    return connection, found == 0


def _check_tables(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError for a database that says it is empty, or of our version, and is not."""
    # In one statement, that is one look: another process may be making the tables just now.
    look = "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version"
    version, tables = connection.execute(look).fetchone()
    if version == 0 and tables:
        raise sqlite3.DatabaseError("it holds another program's tables")
    for table, columns in _READ.items() if version == VERSION else ():
        connection.execute(f"SELECT {columns} FROM {table} LIMIT 0")


def _folded(value: Any) -> str:
    return value.casefold() if isinstance(value, str) else ""


def _moved_aside(path: Path) -> Path:
    """Rename the file, and with it the log that is there while another program has it open; it is not the new one's."""
    aside = move_aside(path, "broken")
    _doubt(path).unlink(missing_ok=True)
    for companion in ("-wal", "-shm"):
        beside = path.with_name(path.name + companion)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + companion))
    return aside
