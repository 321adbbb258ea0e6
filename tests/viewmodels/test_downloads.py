"""Downloads over their real process and a hub on loopback."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.catalogue.completeness import is_complete
from app.catalogue.download_protocol import download_command
from app.catalogue.hub_cache import CachedRepository
from app.catalogue.token_protocol import token_command
from app.paths import default_paths
from app.viewmodels.downloads import Downloads, DownloadState, DownloadStatus
from app.viewmodels.hub_token import HubToken
from tests.catalogue import small_model
from tests.catalogue.local_hub import REPO, digest_of

SHARD = small_model.SHARDS[0]
TOTAL = sum(len(data) for name, data in small_model.files().items() if name in small_model.FETCHED)


class Desk:
    """Downloads, and what they said."""

    def __init__(self, loop, command=None) -> None:
        self.loop = loop
        self.token = HubToken(token_command())
        self.downloads = Downloads(command or download_command(), default_paths().downloads, self.token)
        self.history: list[tuple[str, DownloadState]] = []
        self.finished: list[tuple[str, object]] = []
        self.tokens_wanted: list[str] = []
        self.downloads.changed.connect(lambda repo: self.history.append((repo, self.downloads.state(repo))))
        self.downloads.finished.connect(lambda *what: self.finished.append(what))
        self.downloads.token_wanted.connect(self.tokens_wanted.append)

    def until(self, holds) -> None:
        async def wait() -> None:
            async with asyncio.timeout(60):
                while not holds():
                    await asyncio.sleep(0.01)

        self.loop.run_until_complete(wait())

    def status(self, repo: str = REPO) -> DownloadStatus:
        return self.downloads.state(repo).status

    def until_status(self, status: DownloadStatus, repo: str = REPO) -> DownloadState:
        self.until(lambda: self.status(repo) is status)
        return self.downloads.state(repo)

    def until_bytes(self, count: int) -> None:
        self.until(lambda: self.downloads.state(REPO).bytes_done >= count)

    def statuses(self, repo: str = REPO) -> list[DownloadStatus]:
        """Return the statuses of a repository in order, each once."""
        states = [state.status for name, state in self.history if name == repo]
        return [s for i, s in enumerate(states) if i == 0 or s is not states[i - 1]]


@pytest.fixture
def desk_of(loop, hub):
    made = []

    def make(command=None) -> Desk:
        made.append(Desk(loop, command))
        return made[-1]

    yield make
    for desk in made:
        loop.run_until_complete(desk.downloads.close())
        loop.run_until_complete(desk.token.close())


@pytest.fixture
def desk(desk_of):
    return desk_of()


def part_bytes(name: str = SHARD) -> int:
    path = CachedRepository(REPO).folder / "blobs" / f"{digest_of(small_model.files()[name])}.incomplete"
    return path.stat().st_size if path.exists() else -1


def test_a_download_from_start_to_end(hub, desk):
    assert desk.downloads.state(REPO) == DownloadState()
    hub.bytes_per_s = 1_000_000
    desk.downloads.start(REPO)
    state = desk.until_status(DownloadStatus.DONE)
    assert desk.statuses() == [DownloadStatus.WAITING, DownloadStatus.RUNNING, DownloadStatus.DONE]
    assert is_complete(state.folder)
    assert desk.finished == [(REPO, state.folder)]
    running = [s for _, s in desk.history if s.status is DownloadStatus.RUNNING]
    assert running[0].note == "Asking the hub"
    assert (running[-1].bytes_done, running[-1].bytes_total) == (TOTAL, TOTAL)
    assert any(s.bytes_per_s and s.seconds_left is not None for s in running)
    assert desk.downloads.under_way() == ()


def test_pause_keeps_the_part_and_resume_fetches_the_rest_alone(hub, desk):
    hub.bytes_per_s = 400_000
    desk.downloads.start(REPO)
    desk.until_bytes(100_000)
    desk.downloads.pause(REPO)
    assert desk.status() is DownloadStatus.RUNNING
    state = desk.until_status(DownloadStatus.PAUSED)
    assert 100_000 <= state.bytes_done < TOTAL
    assert (state.bytes_total, state.error) == (TOTAL, None)
    kept = part_bytes()
    hub.settle()
    hub.bytes_per_s = 0
    served = hub.served[SHARD]
    desk.downloads.start(REPO)
    assert is_complete(desk.until_status(DownloadStatus.DONE).folder)
    assert hub.served[SHARD] - served == len(small_model.files()[SHARD]) - kept


def test_cancel_removes_what_was_fetched(hub, desk):
    hub.bytes_per_s = 400_000
    desk.downloads.start(REPO)
    desk.until_bytes(100_000)
    desk.downloads.cancel(REPO)
    assert desk.until_status(DownloadStatus.ABSENT) == DownloadState()
    assert not CachedRepository(REPO).folder.exists()
    assert desk.downloads.under_way() == ()
    desk.downloads.cancel(REPO)
    desk.downloads.pause(REPO)
    assert desk.status() is DownloadStatus.ABSENT


def test_a_paused_download_can_be_cancelled(hub, desk):
    hub.bytes_per_s = 400_000
    desk.downloads.start(REPO)
    desk.until_bytes(100_000)
    desk.downloads.pause(REPO)
    desk.until_status(DownloadStatus.PAUSED)
    desk.downloads.cancel(REPO)
    assert desk.status() is DownloadStatus.ABSENT
    assert not CachedRepository(REPO).folder.exists()


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_what_an_earlier_window_left_is_paused_and_goes_on(hub, desk, desk_of, how):
    hub.bytes_per_s = 400_000
    desk.downloads.start(REPO)
    desk.until_bytes(100_000)
    if how == "closed":
        desk.loop.run_until_complete(desk.downloads.close())
    else:
        os.kill(desk.downloads._run.child._process.processId(), signal.SIGKILL)
        state = desk.until_status(DownloadStatus.FAILED)
        assert "killed" in state.error
        assert "kept" in state.hint
    hub.settle()
    hub.bytes_per_s = 0
    kept = part_bytes()
    later = desk_of()
    state = later.downloads.state(REPO)
    assert state.status is DownloadStatus.PAUSED
    assert state.bytes_total == TOTAL
    assert state.bytes_done > kept >= 50_000
    assert later.downloads.under_way() == (REPO,)
    served = hub.served[SHARD]
    later.downloads.start(REPO)
    later.until_status(DownloadStatus.DONE)
    assert hub.served[SHARD] - served == len(small_model.files()[SHARD]) - kept
    assert desk_of().downloads.state(REPO).folder == later.downloads.state(REPO).folder


WINDOW = """
import sys
from PySide6.QtCore import QCoreApplication
from app.catalogue.download_protocol import download_command
from app.catalogue.token_protocol import token_command
from app.paths import default_paths
from app.viewmodels.downloads import Downloads
from app.viewmodels.hub_token import HubToken
application = QCoreApplication(sys.argv)
downloads = Downloads(download_command(), default_paths().downloads, HubToken(token_command()))
def tell(repo):
    if downloads.state(repo).bytes_done > 100_000:
        print(downloads._run.child._process.processId(), flush=True)
downloads.changed.connect(tell)
downloads.start(sys.argv[1])
application.exec()
"""


def test_a_killed_window_takes_its_download_along_and_the_next_one_goes_on(hub, desk):
    hub.bytes_per_s = 400_000
    with subprocess.Popen([sys.executable, "-c", WINDOW, REPO], stdout=subprocess.PIPE, text=True) as window:
        child = int(window.stdout.readline())
        window.kill()
    desk.until(lambda: not is_alive(child))
    hub.settle()
    hub.bytes_per_s = 0
    kept = part_bytes()
    state = desk.downloads.state(REPO)
    assert state.status is DownloadStatus.PAUSED
    assert state.bytes_done > kept >= 50_000
    served = hub.served[SHARD]
    desk.downloads.start(REPO)
    assert is_complete(desk.until_status(DownloadStatus.DONE).folder)
    assert hub.served[SHARD] - served == len(small_model.files()[SHARD]) - kept


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process_id}/stat")  # where nobody collects it, it stays as a zombie
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


SCRIPTED = """
import json, sys
asked = json.loads(sys.stdin.readline())
def say(what, **fields):
    print(json.dumps({"type": what, **fields}), flush=True)
def fail(kind):
    say("Failed", kind=kind, message="No " + asked["repo"], hint="Try another.")
name = asked["repo"].partition("/")[2]
if name == "Nowhere":
    fail("not found")
elif name == "Gated" and asked["token"] != "hf_member":
    fail("token wanted")
else:
    say("Planned", files=2, bytes_total=100, bytes_done=10)
    say("Progress", bytes_done=40, bytes_per_s=20.0, seconds_left=3.0)
    if name == "Silent":
        sys.stdin.read()
    say("Waiting", seconds=7.0, why="The hub is busy")
    if name == "Patient":
        sys.stdin.read()
    else:
        say("Checking", bytes_done=25, bytes_total=100)
        say("Finished", folder="/models/" + name)
"""
"""A download's process that needs no hub and starts at once."""


@pytest.fixture
def scripted(desk_of):
    return desk_of([sys.executable, "-c", SCRIPTED])


def test_what_the_process_says_is_the_state(scripted):
    scripted.downloads.start("a/Model")
    done = scripted.until_status(DownloadStatus.DONE, "a/Model")
    running = DownloadStatus.RUNNING
    assert [state for _, state in scripted.history] == [
        DownloadState(DownloadStatus.WAITING),
        DownloadState(running, note="Asking the hub"),
        DownloadState(running, 10, 100),
        DownloadState(running, 40, 100, 20.0, 3.0),
        DownloadState(running, 40, 100, note="The hub is busy; trying again in 7 s"),
        DownloadState(running, 40, 100, note="Checking: 25%"),
        done,
    ]
    assert done == DownloadState(DownloadStatus.DONE, 100, 100, folder=Path("/models/Model"))


def test_a_process_that_falls_silent_is_said_to_be(scripted):
    scripted.downloads._silence.setInterval(50)
    scripted.downloads.start("a/Silent")
    scripted.until(lambda: scripted.downloads.state("a/Silent").note == "Nothing comes at the moment")
    assert scripted.downloads.state("a/Silent").bytes_per_s is None


def test_one_at_a_time_the_others_wait(scripted):
    downloads = scripted.downloads
    for name in ("a/Patient", "a/Second", "a/Patient", "a/Third", "a/Fourth"):
        downloads.start(name)
    scripted.until(lambda: downloads.state("a/Patient").bytes_done)
    waiting = [scripted.status(f"a/{name}") for name in ("Second", "Third", "Fourth")]
    assert waiting == [DownloadStatus.WAITING] * 3
    downloads.pause("a/Third")
    downloads.cancel("a/Fourth")
    assert scripted.status("a/Third") is DownloadStatus.PAUSED
    assert scripted.status("a/Fourth") is DownloadStatus.ABSENT
    downloads.pause("a/Patient")
    scripted.until_status(DownloadStatus.DONE, "a/Second")
    assert scripted.status("a/Patient") is DownloadStatus.PAUSED
    assert [repo for repo, _ in scripted.finished] == ["a/Second"]
    assert downloads.under_way() == ("a/Patient", "a/Third")


def test_a_failure_makes_room_for_the_next(scripted):
    scripted.downloads.start("a/Nowhere")
    scripted.downloads.start("a/Model")
    scripted.until_status(DownloadStatus.DONE, "a/Model")
    failed = DownloadState(DownloadStatus.FAILED, error="No a/Nowhere", hint="Try another.")
    assert scripted.downloads.state("a/Nowhere") == failed
    scripted.downloads.cancel("a/Nowhere")
    assert scripted.downloads.state("a/Nowhere") == DownloadState()


def test_a_gated_model_wants_a_token_and_is_fetched_with_it(scripted, caplog):
    caplog.set_level(0)
    scripted.downloads.start("a/Gated")
    scripted.until_status(DownloadStatus.FAILED, "a/Gated")
    assert scripted.tokens_wanted == ["a/Gated"]
    scripted.token.save("hf_member")
    scripted.until(lambda: scripted.token.is_there)
    scripted.downloads.start("a/Gated")
    scripted.until_status(DownloadStatus.DONE, "a/Gated")
    assert "hf_member" not in caplog.text + repr(scripted.history)


def test_pausing_before_the_process_is_there(hub, desk):
    desk.downloads.start(REPO)
    desk.downloads.pause(REPO)
    desk.until_status(DownloadStatus.PAUSED)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [("import sys; sys.exit(3)", "exit status 3"), ("print('hello'); input()", "cannot read"), (None, "could not be")],
)
def test_a_process_that_misbehaves_is_a_failure(desk_of, script, reason):
    desk = desk_of([sys.executable, "-c", script] if script else ["/nowhere/nibble"])
    desk.downloads.start(REPO)
    state = desk.until_status(DownloadStatus.FAILED)
    assert reason in state.error
    assert state.hint


@pytest.mark.parametrize("name", ["../../etc", "", "a/b/c"])
def test_a_name_that_is_none_is_on_no_disk(desk, name):
    desk.downloads.cancel(name)
    assert desk.downloads.state(name) == DownloadState()
