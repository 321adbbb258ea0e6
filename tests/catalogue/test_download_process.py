"""The download's process itself: paused, killed, told nonsense; and where its token can be seen."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.catalogue import download_process
from app.catalogue.completeness import is_complete
from app.catalogue.download import Download
from app.catalogue.download_protocol import (
    Event,
    Failed,
    FailureKind,
    Fetch,
    Finished,
    Planned,
    Progress,
    Waiting,
    decode_event,
    download_command,
    encode,
)
from app.catalogue.hub_cache import CachedRepository
from app.paths import default_paths
from tests.catalogue import small_model
from tests.catalogue.local_hub import REPO, Fault, Repository, digest_of

SHARD = small_model.SHARDS[0]


class Child:
    """A download's process, its window played by the test."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            download_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.lines: list[str] = []

    def send(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def event(self) -> Event | None:
        if line := self.process.stdout.readline().decode():
            self.lines.append(line)
            return decode_event(line)
        return None

    def until(self, kind: type[Event]) -> Event:
        while not isinstance(event := self.event(), kind):
            assert event is not None, self.process.stderr.read()
        return event

    def pause(self) -> float:
        """End its stdin; return after how many seconds it was gone."""
        began_s = time.monotonic()
        self.process.stdin.close()
        self.process.wait(10)
        return time.monotonic() - began_s

    def end(self) -> tuple[int, list[Event], str]:
        """Return exit code, the events not yet read, and stderr."""
        rest = []
        while (event := self.event()) is not None:
            rest.append(event)
        code = self.process.wait(10)
        return code, rest, self.process.stderr.read().decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if not stream.closed:
                stream.close()


@pytest.fixture
def start(hub):
    children = []

    def begin(repo: str = REPO, **request) -> Child:
        children.append(Child())
        children[-1].send(encode(Fetch(repo, **request)))
        return children[-1]

    yield begin
    for child in children:
        child.close()


def part() -> Path:
    data = small_model.files()[SHARD]
    return CachedRepository(REPO).folder / "blobs" / f"{digest_of(data)}.incomplete"


def test_the_command_of_the_frozen_app_is_the_app(monkeypatch):
    assert download_command() == [sys.executable, "-m", "app", "--download"]
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert download_command() == [sys.executable, "--download"]


def test_a_download_from_plan_to_end(hub, start):
    hub.bytes_per_s = 600_000
    child = start()
    total = sum(len(hub.repositories[REPO].files[name]) for name in small_model.FETCHED)
    assert child.until(Planned) == Planned(len(small_model.FETCHED), total, 0)
    code, events, stderr = child.end()
    assert (code, stderr) == (0, "")
    assert isinstance(events[-1], Finished)
    assert is_complete(Path(events[-1].folder))
    progress = [event for event in events if isinstance(event, Progress)]
    assert [p.bytes_done for p in progress] == sorted(p.bytes_done for p in progress)
    assert progress[-1].bytes_done == total
    told = next(p for p in progress if p.bytes_per_s is not None and p.seconds_left is not None)
    assert 200_000 < told.bytes_per_s < 900_000
    assert told.seconds_left == pytest.approx((total - told.bytes_done) / told.bytes_per_s)


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_what_was_fetched_before_an_end_is_not_fetched_again(hub, start, how):
    hub.bytes_per_s = 400_000
    child = start()
    while child.until(Progress).bytes_done < 100_000:
        pass
    if how == "pause":
        assert child.pause() < 1.0
    else:
        child.process.kill()
    code, events, stderr = child.end()
    assert code == (-signal.SIGKILL if how == "kill" else 0)
    assert not [event for event in events if isinstance(event, Finished | Failed)]
    assert stderr == ""
    kept = part().stat().st_size
    assert kept > 50_000
    assert not (CachedRepository(REPO).folder / "snapshots").exists()
    hub.settle()
    hub.bytes_per_s = 0
    served = hub.served[SHARD]
    again = start()
    assert again.until(Planned).bytes_done > kept
    code, events, _ = again.end()
    assert code == 0
    assert is_complete(Path(events[-1].folder))
    assert hub.served[SHARD] - served == len(hub.repositories[REPO].files[SHARD]) - kept


@pytest.mark.parametrize("how", ["pause", "sigterm"])
def test_a_silent_connection_does_not_keep_it_from_ending(hub, start, how):
    hub.faults[SHARD] = [Fault(stall_after=100_000)]
    child = start()
    child.until(Planned)
    while not (part().exists() and part().stat().st_size == 100_000):
        time.sleep(0.01)
    if how == "sigterm":
        child.process.terminate()
    else:
        assert child.pause() < 1.0
    assert child.end()[0] == 0


def test_nor_does_a_hub_that_asks_to_wait(hub, start):
    hub.faults["api"] = [Fault(503, {"Retry-After": "60"})]
    child = start()
    assert child.until(Waiting) == Waiting(60.0, "The hub is busy")
    assert child.pause() < 1.0
    assert child.end()[0] == 0


def test_a_failure_is_told_and_ends_the_process(hub, start):
    code, events, stderr = start("mlx-community/Nowhere").end()
    assert (code, stderr) == (1, "")
    assert [event.kind for event in events] == [FailureKind.NOT_FOUND]


def test_a_defect_is_told_with_its_traceback_and_without_the_token(monkeypatch):
    def break_down(_self):
        raise ZeroDivisionError("with hf_secret in hand")

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(Download, "run", break_down)
    failed = download_process._outcome(Fetch(REPO, token="hf_secret"), io.BytesIO())
    assert failed.kind is FailureKind.DEFECT
    assert failed.detail.startswith("Traceback")
    assert "with (token) in hand" in failed.message
    assert "hf_secret" not in str(failed)


@pytest.mark.parametrize(
    "line", ["", "{", '{"type":"Fetch","repo":"a/b","token":["hf_secret"]}', '"hf_secret"', "\xff"]
)
def test_a_request_that_cannot_be_read_is_not_repeated(hub, line):
    child = Child()
    try:
        child.send(line)
        code, events, stderr = child.end()
    finally:
        child.close()
    assert code == 1
    assert [event.kind for event in events] == [FailureKind.DEFECT]
    assert "hf_secret" not in str(events) + stderr


@pytest.mark.parametrize("token", ["hf_secret\nX-Evil: 1", "hf_secret\x00", "hf_sécret", ""])
def test_a_token_that_no_header_can_hold_is_refused_unsaid(hub, start, token):
    code, events, stderr = start(token=token).end()
    assert code == 1
    assert [event.kind for event in events] == [FailureKind.TOKEN_WANTED]
    assert "secret" not in str(events) + stderr
    assert hub.requests == []


@pytest.mark.parametrize("gated", [False, True])
def test_the_token_is_seen_by_the_hub_alone(hub, start, gated, nibble_home, monkeypatch):
    monkeypatch.setenv("HF_DEBUG", "1")
    token = "hf_secret_of_a_person"
    hub.repositories[REPO] = Repository(small_model.files(), gated=gated, token="hf_owner")
    hub.bytes_per_s = 400_000
    child = start(token=token)
    if not gated:
        hub.repositories[REPO].token = token
    child.until(Planned)
    proc = Path(f"/proc/{child.process.pid}")
    if proc.exists():
        assert token.encode() not in (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
    code, events, stderr = child.end()
    assert code == (1 if gated else 0), (events, stderr)
    assert f"Bearer {token}" in {authorization for *_, authorization in hub.requests}
    assert token not in "".join(child.lines) + stderr
    assert "signature=secret" not in "".join(child.lines) + stderr
    for path in nibble_home.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes()
    assert token not in os.environ.values()


def test_nothing_is_told_to_anybody_but_the_hub_and_no_record_stays(hub, start):
    assert start().end()[0] == 0
    assert {path.split("/")[1] for _, path, _, _ in hub.requests} == {"api", "mlx-community"}
    assert list(default_paths().downloads.iterdir()) == []
