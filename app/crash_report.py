"""Crash reports: a file that a person can read, open and attach. No text of a chat and no token goes into one."""

import platform
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from app import __version__
from app.paths import Paths, replace_text

KEPT = 10
"""Reports that stay; older ones go when a new one comes."""
LOG_LINES = 60
_TOKEN = re.compile(r"\bhf_\w{8,}|(?i:(?<=bearer )\S+)")
_ERROR_LINE = re.compile(r"^\s*(?:[\w.]+\.)?\w*(?:Error|Exception|Exit|Interrupt|Warning): ")
_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
_SHORTEST_SECRET = 4
"""Lines of a chat that are shorter say nothing, and would be found everywhere."""


def write_crash_report(
    paths: Paths, what: str, detail: str, versions: Mapping[str, str], private: Iterable[str] = ()
) -> Path:
    """Write a report into the log folder and return its path.

    `what` is one sentence, `detail` a traceback or a process's last words; `private` are texts that must not appear,
    such as the open chat's messages. Raises NibbleError where it cannot be written.
    """
    now = datetime.now(UTC)
    facts = {"Nibble": __version__, "Python": platform.python_version(), "System": platform.platform(), **versions}
    parts = [
        "Nibble crash report",
        f"{now:%Y-%m-%d %H:%M:%S} UTC\n{what}",
        "Attach this file to a report, if you like. Texts of chats, access tokens and your user name were left out.",
        "\n".join(f"{name}: {value}" for name, value in facts.items()),
        f"What happened:\n{detail.strip() or '(no details)'}",
        f"Last lines of the log:\n{_log_tail(paths.log_file) or '(none)'}",
    ]
    path = paths.logs / f"crash-{now:%Y%m%d-%H%M%S-%f}.txt"
    replace_text(path, redacted("\n\n".join(parts), private) + "\n")
    for old in crash_reports(paths)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def crash_reports(paths: Paths) -> list[Path]:
    """Return the reports that are there, the newest first."""
    return sorted(paths.logs.glob("crash-*.txt"), reverse=True)


def redacted(text: str, private: Iterable[str]) -> str:
    """Return `text` without tokens, without the lines of `private` texts, and without the home folder's name.

    What an error quotes is left out too: it may be what was being worked on.
    """
    lines = [_QUOTED.sub("'…'", line) if _ERROR_LINE.match(line) else line for line in text.split("\n")]
    text = "\n".join(lines)
    secrets = {line.strip() for secret in private for line in (*secret.splitlines(), repr(secret)[1:-1])}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "[chat text]")
    return _TOKEN.sub("[token]", text).replace(str(Path.home()), "~")


def _log_tail(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LOG_LINES:])
