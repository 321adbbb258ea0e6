"""The figures of earlier sessions: a file a session, a JSON object a line, the first for the session itself.

Lines are only ever added, so a crash costs the last reply at most. A file that cannot be read is moved aside. Of very
many sessions the oldest are deleted as a new one begins.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.chat.figures import MachineFacts
from app.chat.plain import PlainError, from_fields, plain_fields
from app.errors import NibbleError
from app.paths import move_aside, replace_text
from app.stats.session import Row

_log = logging.getLogger(__name__)

VERSION = 1
SUFFIX = ".jsonl"
MOST_SESSIONS = 500
MOST_BYTES = 50_000_000
"""What is kept of earlier sessions, the latest first: so many, of so many bytes in all."""
_STAMP = "%Y%m%d-%H%M%S"
_NAME = re.compile(r"(\d{8}-\d{6})(-\d+)?")


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """One kept session: what to read it by, and when its first reply ended (UTC)."""

    name: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class KeptSession:
    """What a session's file says; `notice` tells what could not be read ("" where all could)."""

    rows: tuple[Row, ...]
    machine: MachineFacts
    notice: str = ""


@dataclass(frozen=True, slots=True)
class _Header:
    version: int
    machine: MachineFacts


class SessionHistory:
    """The folder of all sessions, this program's own among them from its first reply on."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder = folder
        self._now = now
        self._own: Path | None = None

    def append(self, row: Row, machine: MachineFacts) -> None:
        """Keep one more reply of this session. Raises NibbleError where it cannot be written."""
        try:
            if self._own is None:
                self.prune()
                self._own = self._create(_line(_Header(VERSION, machine)))
            with self._own.open("a", encoding="utf-8", errors="replace", newline="") as file:
                file.write(_line(row))
        except OSError as error:
            raise NibbleError(
                f"The figures of this session cannot be kept: {error.strerror or error}.",
                "They are shown until Nibble is closed. Export them to keep them.",
            ) from error

    def earlier(self) -> tuple[SessionEntry, ...]:
        """Return all other sessions, the latest first; no file is opened for that."""
        found = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            started_at = _started_at(path)
            if path != self._own and started_at is not None:
                found.append(SessionEntry(path.stem, started_at))
        return tuple(sorted(found, key=lambda entry: (entry.started_at, entry.name), reverse=True))

    def read(self, name: str) -> KeptSession:
        """Read a session. Raises NibbleError where nothing can be read; a broken file was moved aside then.

        Where only some of its lines are broken, the whole file is moved aside and what could be read is kept.
        """
        path = self._folder / f"{name}{SUFFIX}"
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise NibbleError(f"{path} cannot be read: {error.strerror or error}.") from error
        try:
            header = _header(lines[0] if lines else "")
        except PlainError as error:
            raise NibbleError(f"The file of this session is broken: {error}. {_aside(path)}") from error
        rows, broken = [], 0
        for line in lines[1:]:
            try:
                rows.append(_row(line))
            except PlainError:
                broken += 1
        notice = ""
        if broken:
            notice = f"{broken} of {len(lines) - 1} replies of this session cannot be read. {_aside(path)}"
            if not path.exists():
                replace_text(path, "".join([_line(header), *map(_line, rows)]))
        return KeptSession(tuple(rows), header.machine, notice)

    def delete(self, name: str) -> None:
        """Delete an earlier session. Raises NibbleError where that fails."""
        path = self._folder / f"{name}{SUFFIX}"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise NibbleError(f"{path} cannot be deleted: {error.strerror or error}.") from error

    def prune(self) -> None:
        """Delete the oldest sessions beyond the bounds; one that cannot be deleted stays."""
        total = 0
        for count, entry in enumerate(self.earlier(), 1):
            path = self._folder / f"{entry.name}{SUFFIX}"
            try:
                total += path.stat().st_size
                if count > MOST_SESSIONS or total > MOST_BYTES:
                    path.unlink()
            except OSError as error:
                _log.warning("an old session stays: %s", error)

    def _create(self, header: str) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp, count = self._now().strftime(_STAMP), 1
        while True:
            path = self._folder / f"{stamp}{f'-{count}' if count > 1 else ''}{SUFFIX}"
            try:
                with path.open("x", encoding="utf-8", newline="") as file:
                    file.write(header)
            except FileExistsError:
                count += 1
            else:
                return path


def _line(part: _Header | Row) -> str:
    # splitlines() cuts at more than line feeds, and JSON escapes none of them unless it is ASCII.
    return json.dumps(plain_fields(part), ensure_ascii=True, allow_nan=False, separators=(",", ":")) + "\n"


def _header(line: str) -> _Header:
    data = _object(line)
    version = data.get("version")
    if type(version) is int and version > VERSION:
        raise NibbleError(
            f"This session was kept by a newer Nibble: its file has version {version}, this one reads {VERSION}.",
            "Open it with that Nibble.",
        )
    header = from_fields(_Header, data, "session")
    if header.version != VERSION:
        raise PlainError(f"session.version is {header.version}")
    return header  # type: ignore[no-any-return]


def _row(line: str) -> Row:
    return from_fields(Row, _object(line), "reply")  # type: ignore[no-any-return]


def _object(line: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise PlainError("a line holds no JSON") from None
    if not isinstance(data, dict):
        raise PlainError("a line holds no object")
    return data


def _started_at(path: Path) -> datetime | None:
    """Return the time in a file's name; None for a file of somebody else's."""
    found = _NAME.fullmatch(path.stem)
    try:
        return datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


def _aside(path: Path) -> str:
    try:
        return f"The file was kept as {move_aside(path, 'broken').name}."
    except OSError as error:
        return f"The file could not be moved aside ({error.strerror})."
