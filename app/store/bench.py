"""How long a person waits for the store when it is full: `python -m app.store.bench`.

Fills a database with 10,000 conversations and 1,000,000 messages, runs of words from the bundled texts, by SQL; then
opens it, lists, opens conversations, searches and appends by the store itself, each many times. Prints milliseconds,
median and most, and last one line of JSON. Filling takes minutes and some 2 GB of disk; `--folder` keeps the database
for the next run.
"""

import argparse
import json
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.resources import resources_path
from app.store.store import MessageState, Store

CONVERSATIONS, MESSAGES = 10_000, 1_000_000
AIMED_AT_MS = 50.0
WORDS = (8, 60)
"""Words of a message, at least and at most."""
REPEATS = 25
SEED = 1
_RARE = "zanzibarites"
"""A word of one message in 50,000."""
_SEARCHES = {
    "a rare word": _RARE,
    "a word of one message in a hundred": "harbor",
    "a word of most messages": "the",
    "two of them": "and her",
    "two letters": "qu",
    "two letters that are nowhere": "q7",
    "a word that is nowhere": "xyzzyplugh",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill, measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m app.store.bench", description=__doc__)
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--folder", type=Path, help="where the database is kept, or found from an earlier run")
    asked = parser.parse_args(arguments)
    if not 0 < asked.conversations <= asked.messages:
        parser.error("there must be a message for each conversation at least")
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "nibble.sqlite3"
        if not path.exists():
            print(f"Filling {path} with {asked.messages:,} messages ...", flush=True)
            fill(path, asked.conversations, asked.messages)
        figures = measure(path)
        size_mb = path.stat().st_size / 1e6
    print(f"{size_mb:,.0f} MB, SQLite {sqlite3.sqlite_version}, Python {platform.python_version()}")
    print(f"{'what':<42}{'median ms':>12}{'most ms':>12}")
    for what, (median, most) in figures.items():
        print(f"{what:<42}{median:>12.1f}{most:>12.1f}{'' if median <= AIMED_AT_MS else '   more than aimed at'}")
    versions = {"sqlite": sqlite3.sqlite_version, "python": platform.python_version(), "os": platform.platform()}
    print(json.dumps({"benchmark": "store", "versions": versions, "megabytes": round(size_mb), "ms": figures}))
    return 0


def fill(path: Path, conversations: int, messages: int) -> None:
    """Make a database of that size: messages are dealt out to the conversations evenly."""
    Store(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -500000")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO conversation (title, model_path, options, created_at, updated_at) VALUES (?, '', '{}', ?, ?)",
            ((f"Chat {n}", _time(n), _time(n)) for n in range(conversations)),
        )
        connection.executemany(
            "INSERT INTO message (conversation_id, role, text, state, parent_id) VALUES (?, ?, ?, ?, ?)",
            _messages(conversations, messages),
        )
        last = "SELECT max(id) FROM message WHERE conversation_id = conversation.id"
        connection.execute(f"UPDATE conversation SET leaf_id = ({last})")
        connection.execute("COMMIT")
    finally:
        connection.close()


def measure(path: Path) -> dict[str, tuple[float, float]]:
    """Return median and most milliseconds of what a person waits for."""
    rng = random.Random(SEED)
    figures = {"open the store": _timed(lambda: Store(path).close())}
    store = Store(path)
    try:
        ids = [listed.id for listed in store.listed()]
        figures["list all conversations"] = _timed(store.listed)
        figures["open a conversation"] = _timed(lambda: store.messages(rng.choice(ids)))
        for what, text in _SEARCHES.items():
            figures[f"search: {what}"] = _timed(lambda text=text: store.listed(text))  # type: ignore[misc]
        figures["start a conversation"] = _timed(lambda: store.create_conversation("New", "", ChatOptions()))
        text = " ".join(rng.choices(_words(), k=WORDS[1]))
        figures["append a message"] = _timed(lambda: store.add_message(rng.choice(ids), Message(Role.USER, text)))
        reply = store.add_message(ids[0], Message(Role.ASSISTANT, ""), MessageState.STREAMING)
        written = " ".join(rng.choices(_words(), k=2000))
        figures["store a reply of 2,000 words again"] = _timed(
            lambda: store.update_message(reply.id, text=written, state=MessageState.STREAMING)
        )
    finally:
        store.close()
    return figures


def _timed(action: Callable[[], object]) -> tuple[float, float]:
    taken_ms = []
    for _ in range(REPEATS):
        began_s = time.perf_counter()
        action()
        taken_ms.append(1000 * (time.perf_counter() - began_s))
    return round(statistics.median(taken_ms), 2), round(max(taken_ms), 2)


def _messages(conversations: int, messages: int) -> Iterator[tuple[int, str, str, str, int | None]]:
    """Yield rows, a conversation's one after the other, each on the one before it."""
    words, rng = _words(), random.Random(SEED)
    before = 0
    for row in range(messages):
        conversation = row * conversations // messages + 1
        begins = rng.randrange(len(words) - WORDS[1])
        text = " ".join(words[begins : begins + rng.randint(*WORDS)])
        if row % 50_000 == 17:
            text += f" {_RARE}"
        role = Role.ASSISTANT if row % 2 else Role.USER
        yield conversation, role.value, text, MessageState.COMPLETE.value, row if before == conversation else None
        before = conversation


def _words() -> list[str]:
    names = ("quality_prose.txt", "quality_chat.txt", "calibration.txt")
    return " ".join((resources_path() / name).read_text(encoding="utf-8") for name in names).split()


def _time(number: int) -> str:
    return f"2026-01-01T00:{number // 60_000:02d}:{number // 1000 % 60:02d}.{number % 1000:03d}000+00:00"


if __name__ == "__main__":
    sys.exit(main())
