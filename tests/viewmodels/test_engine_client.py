import asyncio
import sys
import time

import pytest

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.engine.command import engine_command
from app.engine.protocol import (
    PROTOCOL_VERSION,
    Cancel,
    Failed,
    Finished,
    Forget,
    Generate,
    Load,
    Loaded,
    encode,
)
from app.viewmodels import child_process
from app.viewmodels.child_process import STDERR_LINES
from app.viewmodels.engine_client import EngineClient
from tests.chat_parts import MODEL

FAKE = engine_command("fake")


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


class Recorder:
    """What a client has said, in order."""

    def __init__(self, client: EngineClient) -> None:
        self.events: list[object] = []
        self.deaths: list[tuple[str, str]] = []
        self.machines: list[object] = []
        client.event_received.connect(self.events.append)
        client.died.connect(lambda reason, tail: self.deaths.append((reason, tail)))
        client.started_up.connect(self.machines.append)

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


async def until(holds, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture
def client_of(loop):
    made = []

    def make(command, **options) -> EngineClient:
        made.append(EngineClient(command, **options))
        return made[-1]

    yield make
    for client in made:
        loop.run_until_complete(client.shutdown())
        assert not client.is_running


def generate(request_id: str, text: str) -> Generate:
    return Generate(request_id, "chat-1", (Message(Role.USER, text),), ChatOptions())


def test_a_conversation_with_the_fake_engine(loop, client_of, tmp_path):
    client = client_of(FAKE)
    heard = Recorder(client)

    async def talk():
        client.start()
        client.send(Load(client.new_request_id(), str(tmp_path)))
        await until(lambda: heard.of(Loaded))
        client.send(generate(client.new_request_id(), "Hello [tokens 5]"))
        await until(lambda: heard.of(Finished))

    loop.run_until_complete(talk())
    assert heard.of(Finished)[0].request_id == "r2"
    assert len(heard.of(Finished)[0].text.split()) == 5
    assert heard.machines == [client.machine]
    assert heard.deaths == []


def test_cancel_reaches_the_process_in_the_middle_of_a_reply(loop, client_of, tmp_path):
    client = client_of(FAKE)
    heard = Recorder(client)

    async def talk():
        client.start()
        client.send(Load("load", str(tmp_path)))
        client.send(generate("reply", "Hello [tokens 4000] [token-ms 5]"))
        await until(lambda: len(heard.events) > 20)
        client.send(Cancel("reply"))
        await until(lambda: heard.of(Finished))

    loop.run_until_complete(talk())
    assert heard.of(Finished)[0].figures.finish_reason == "cancelled"


@pytest.mark.parametrize(
    ("script", "reason", "tail"),
    [
        ("import sys; print('last words', file=sys.stderr); sys.exit(3)", "exit status 3", "last words"),
        ("import os; os.abort()", "aborted", ""),
        ("print('hello there')", "cannot read", ""),
        (f"print('''{encode(Loaded('r', MODEL))}''')", "before it was ready", ""),
    ],
)
def test_a_process_that_misbehaves_is_ended_with_a_reason(loop, client_of, script, reason, tail):
    client = client_of(python(script))
    heard = Recorder(client)
    client.start()
    loop.run_until_complete(until(lambda: heard.deaths))
    assert reason in heard.deaths[0][0]
    assert heard.deaths[0][1] == tail
    assert heard.events == []
    assert not client.is_running


def test_a_process_of_another_protocol_is_refused_with_both_versions(loop, client_of, tmp_path):
    script = (
        "from app.engine.fake_engine import FakeEngine; from app.engine.protocol import *; "
        f"print(encode(Ready({PROTOCOL_VERSION + 1}, FakeEngine().machine())), flush=True); input()"
    )
    client = client_of(python(script))
    heard = Recorder(client)
    client.start()
    loop.run_until_complete(until(lambda: heard.deaths))
    assert f"version {PROTOCOL_VERSION + 1}" in heard.deaths[0][0]
    assert f"version {PROTOCOL_VERSION}" in heard.deaths[0][0]
    assert heard.machines == []


def test_a_program_that_does_not_exist_is_told(loop, client_of):
    client = client_of(["/nowhere/nibble-engine"])
    heard = Recorder(client)
    client.start()
    loop.run_until_complete(until(lambda: heard.deaths))
    assert "could not be started" in heard.deaths[0][0]


def test_only_the_last_lines_of_stderr_are_kept(loop, client_of):
    client = client_of(python("import sys\nfor i in range(100): print(i, file=sys.stderr)"))
    heard = Recorder(client)
    client.start()
    loop.run_until_complete(until(lambda: heard.deaths))
    assert heard.deaths[0][1].splitlines() == [str(i) for i in range(100 - STDERR_LINES, 100)]


def test_without_a_process_a_request_is_answered_all_the_same(loop, client_of):
    client = client_of(FAKE)
    heard = Recorder(client)
    client.send(Load("load", "/m"))
    client.send(Cancel("load"))
    loop.run_until_complete(until(lambda: heard.events))
    assert isinstance(heard.events[0], Failed)
    assert heard.events[0].request_id == "load"


def test_restart_replaces_a_running_process_in_silence(loop, client_of, tmp_path):
    client = client_of(FAKE)
    heard = Recorder(client)

    async def talk():
        client.start()
        await until(lambda: heard.machines)
        client.restart()
        await until(lambda: len(heard.machines) == 2)
        client.send(Load("load", str(tmp_path)))
        await until(lambda: heard.of(Loaded))

    loop.run_until_complete(talk())
    assert heard.deaths == []


def test_shutdown_is_silent_and_final(loop, client_of):
    client = client_of(FAKE)
    heard = Recorder(client)

    async def talk():
        client.start()
        await until(lambda: heard.machines)
        await client.shutdown()
        client.start()

    loop.run_until_complete(talk())
    assert not client.is_running
    assert heard.deaths == []


@pytest.mark.parametrize("deaf_to_terminate", [False, True])
def test_a_deaf_process_is_terminated_then_killed(loop, client_of, deaf_to_terminate):
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if deaf_to_terminate else ""
    script = f"import signal, sys, time; {ignore} print('up', file=sys.stderr, flush=True); time.sleep(60)"
    client = client_of(python(script), quit_grace_s=0.1, terminate_grace_s=1.0)

    async def talk() -> float:
        client.start()
        await until(lambda: "up" in client.stderr_tail)
        began_s = time.monotonic()
        await client.shutdown()
        return time.monotonic() - began_s

    took_s = loop.run_until_complete(talk())
    assert not client.is_running
    assert (took_s > 0.9) == deaf_to_terminate


def test_the_death_of_a_process_is_logged_with_its_last_words(loop, client_of, caplog):
    client = client_of(python("import sys; print('last words', file=sys.stderr); sys.exit(4)"))
    heard = Recorder(client)
    client.start()
    loop.run_until_complete(until(lambda: heard.deaths))
    assert "exit status 4" in caplog.text
    assert "last words" in caplog.text


def test_events_that_come_in_a_row_are_read_together_and_a_lone_one_at_once(loop, client_of, monkeypatch):
    monkeypatch.setattr(child_process, "READ_INTERVAL_MS", 400)
    script = (
        "import sys, time; from app.engine.fake_engine import FakeEngine; from app.engine.protocol import *\n"
        "def say(event): print(encode(event), flush=True); time.sleep(0.02)\n"
        "say(Ready(PROTOCOL_VERSION, FakeEngine().machine()))\n"
        "for line in sys.stdin:\n"
        "    for _ in range(6): say(Failed('r', line.strip()))\n"
    )
    client = client_of(python(script))
    heard = Recorder(client)
    times_s = []
    client.event_received.connect(lambda _: times_s.append(time.monotonic()))

    async def talk():
        client.start()
        await until(lambda: heard.machines)
        await asyncio.sleep(0.5)
        client.send(Forget("chat"))
        await until(lambda: len(times_s) == 6)

    loop.run_until_complete(talk())
    assert times_s[5] - times_s[1] < 0.05, "the last five, which came over 80 ms, were read in one go"
    assert times_s[1] - times_s[0] > 0.3
