"""Kills the real window while a reply is written, and measures what of the reply is missing in the store.

`python -m tests.faults.killing N` does so N times, at random moments, and prints the losses in milliseconds.
"""

import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from app.store.store import MessageState, Store

REPOSITORY = Path(__file__).parents[2]
OFF_SCREEN = {"QT_QPA_PLATFORM": "offscreen", "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
TOKEN_MS = 5
MOST_MISSING_MS = 500
LATEST_KILL_S = 2.0
"""Kills come up to so long after the first token: some twenty times the interval in which text is stored."""
START_S = 60.0
END_S = 20.0


class LossError(AssertionError):
    """Something is missing or wrong in the store that a kill does not excuse."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """A token, and the moment at which the engine said it (`time.monotonic()`)."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Loss:
    """What one kill cost: the age of the first missing token (0 where none is missing), and how many are missing.

    Of `said_tokens`; the kill came `after_s` after the window had heard the first. `engine_late_ms` is how much longer
    than it should the engine took for any one token in the second before the kill: how late the machine was.
    """

    ms: float
    tokens: int
    said_tokens: int
    after_s: float
    engine_late_ms: float


def start_window(home: Path, stamps: Path, text: str) -> subprocess.Popen[str]:
    """Start the window in `home`; it says `text`."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.window_process", str(stamps), text],
        cwd=REPOSITORY,
        env={**os.environ, "NIBBLE_HOME": str(home), **OFF_SCREEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def await_line(window: subprocess.Popen[str], line: str) -> None:
    """Wait until the window prints `line`. Raises LossError where it ends or says something else."""
    assert window.stdout is not None
    said = window.stdout.readline().strip()
    if said != line:
        window.kill()
        raise LossError(f"the window said {said!r}, not {line!r}: {window.communicate()[1]}")


def read_stamps(path: Path) -> tuple[int, list[Stamped]]:
    """Return the engine's process id and the tokens that it has said."""
    head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = (line.split(" ", 1) for line in lines if line.endswith("\n"))
    return int(head), [Stamped(float(at), json.loads(text)) for at, text in whole]


def await_end(pid: int) -> None:
    """Wait for a process that is nobody's child here any more. Raises LossError where it goes on."""
    deadline_s = time.monotonic() + END_S
    while _is_alive(pid):
        if time.monotonic() > deadline_s:
            os.kill(pid, signal.SIGKILL)
            raise LossError(f"the engine outlived its window by {END_S:g} s")
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return not Path("/proc").exists()


def kill_once(home: Path, stamps: Path, number: int, after_s: float) -> Loss:
    """Start the window, let it write, kill it `after_s` after the first token, and look at what the store has."""
    window = start_window(home, stamps, f"Kill {number} [tokens 4000] [token-ms {TOKEN_MS}]")
    try:
        await_line(window, "writing")
        time.sleep(after_s)
        killed_s = time.monotonic()
        window.kill()
    finally:
        window.kill()
        window.communicate()
    pid, said = read_stamps(stamps)
    await_end(pid)
    return _loss(home, number, killed_s, after_s, [token for token in said if token.at_s <= killed_s])


def _loss(home: Path, number: int, killed_s: float, after_s: float, said: list[Stamped]) -> Loss:
    """Compare the newest conversation in the store with what was said."""
    store = Store(home / "data" / "nibble.sqlite3")
    try:
        if store.notice:
            raise LossError(store.notice)
        conversations = sorted(store.conversations(), key=lambda conversation: conversation.id)
        if len(conversations) != number:
            raise LossError(f"{len(conversations)} conversations are left of {number}")
        messages = store.messages(conversations[-1].id)
    finally:
        store.close()
    if len(messages) != 2 or not messages[0].message.text.startswith(f"Kill {number} "):
        raise LossError(f"the conversation is not what was said: {messages}")
    reply = messages[1]
    if reply.state is not MessageState.STREAMING:
        raise LossError(f"the reply is {reply.state}")
    stored = reply.message.text
    kept, length = 0, 0
    for token in said:
        length += len(token.text)
        if length > len(stored):
            break
        kept += 1
    if stored != "".join(token.text for token in said)[: len(stored)] and not _only_later(stored, said):
        raise LossError(f"{stored[-80:]!r} was never said so")
    missing = said[kept:]
    last = [token.at_s for token in said if token.at_s >= killed_s - 1.0] + [killed_s]
    late_s = max((b - a for a, b in itertools.pairwise(last)), default=0.0) - TOKEN_MS / 1000
    return Loss(
        (killed_s - missing[0].at_s) * 1000 if missing else 0.0,
        len(missing),
        len(said),
        after_s,
        max(late_s, 0.0) * 1000,
    )


def _only_later(stored: str, said: list[Stamped]) -> bool:
    """Tell whether `stored` begins with all that was said: the kill's moment is taken just before the kill."""
    return stored.startswith("".join(token.text for token in said))


def kill_many(home: Path, count: int, seed: int) -> list[Loss]:
    """Kill the window `count` times in one home folder, at moments drawn from `seed`; earlier chats must stay whole."""
    home.mkdir(parents=True, exist_ok=True)
    moments = random.Random(seed)
    losses: list[Loss] = []
    kept: dict[int, str] = {}
    for number in range(1, count + 1):
        after_s = moments.uniform(0.0, LATEST_KILL_S)
        losses.append(kill_once(home, home / "stamps.txt", number, after_s))
        store = Store(home / "data" / "nibble.sqlite3")
        texts = {c.id: store.messages(c.id)[1].message.text for c in store.conversations()}
        store.close()
        changed = [id_ for id_, text in kept.items() if texts.get(id_) != text]
        if changed:
            raise LossError(f"kill {number} changed earlier replies: {changed}")
        kept = texts
    return losses


def excess_ms(loss: Loss) -> float:
    """Return by how much a loss is beyond what is promised, which a machine that stood still prolongs; 0 is kept."""
    return max(0.0, loss.ms - MOST_MISSING_MS - loss.engine_late_ms)


def summary(losses: list[Loss]) -> str:
    """Return the figures of a run, and its three worst kills."""
    ms = sorted(loss.ms for loss in losses)
    lines = [
        f"{len(ms)} kills, text missing in ms: median {statistics.median(ms):.0f}, "
        f"95th percentile {ms[int(0.95 * (len(ms) - 1))]:.0f}, largest {ms[-1]:.0f}; the worst:"
    ]
    lines += [
        f"{loss.ms:.0f} ms, {loss.tokens} of {loss.said_tokens} tokens, {loss.after_s:.2f} s after the first; "
        f"the engine was up to {loss.engine_late_ms:.0f} ms late"
        for loss in sorted(losses, key=lambda loss: -loss.ms)[:3]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(summary(kill_many(Path(folder) / "home", int(sys.argv[1]), seed=int(sys.argv[2]) if sys.argv[2:] else 1)))
