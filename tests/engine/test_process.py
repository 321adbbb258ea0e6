"""The child process itself, driven with the fake engine's bad days."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.chat.lines import ProtocolError
from app.chat.quality import Effort, TextSource
from app.engine import process
from app.engine.child import ChildError, EngineChild
from app.engine.command import engine_command
from app.engine.fake_engine import FakeEngine
from app.engine.process import EngineServer
from app.engine.protocol import (
    Emit,
    Failed,
    Finished,
    Forget,
    Generate,
    Load,
    Loaded,
    Measure,
    Measuring,
    Prefill,
    Quit,
    Ready,
    Token,
    decode_event,
    encode,
)
from tests.engine.child_chat import GREEDY, Chat, finished, skip_to, with_sampling


@pytest.fixture
def child(tmp_path: Path) -> Iterator[EngineChild]:
    with EngineChild(engine_command("fake")) as child:
        assert isinstance(child.event(), Ready)
        assert isinstance(child.ask(Load("load", str(tmp_path)))[-1], Loaded)
        yield child


def test_the_command_of_the_frozen_app_is_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_command() == [sys.executable, "-m", "app", "--engine", "child"]
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert engine_command("fake") == [sys.executable, "--engine", "fake"]


def test_prints_do_not_reach_the_protocol(child: EngineChild) -> None:
    finished(Chat(child, "c").events("[print decode] Hello."))
    assert child.quit() == 0
    for line in child.lines:
        decode_event(line)
    assert "printed in decode" in child.stderr
    assert "written in decode" in child.stderr


@pytest.mark.parametrize("stage", ["prefill", "decode"])
def test_an_error_for_people_is_told_as_written(child: EngineChild, stage: str) -> None:
    failed = Chat(child, "c").events(f"[fail {stage}]")[-1]
    assert isinstance(failed, Failed)
    assert failed.message == f"The script asks for a failure in {stage}."
    assert failed.hint == "Ask for something else."
    assert failed.detail == ""


@pytest.mark.parametrize("stage", ["prefill", "decode"])
def test_a_defect_is_told_with_its_traceback_and_the_process_lives_on(child: EngineChild, stage: str) -> None:
    failed = Chat(child, "c").events(f"[defect {stage}]")[-1]
    assert isinstance(failed, Failed)
    assert "ZeroDivisionError" in failed.message
    assert failed.detail.startswith("Traceback")
    assert "fake_engine.py" in failed.detail
    finished(Chat(child, "c").events("Hello."))


@pytest.mark.parametrize(("action", "code"), [("abort", -signal.SIGABRT), ("exit", 3)])
@pytest.mark.parametrize("stage", ["prefill", "decode"])
def test_a_crash_ends_the_process_and_nothing_hangs(child: EngineChild, action: str, code: int, stage: str) -> None:
    with pytest.raises(ChildError, match=f"ended with code {code}"):
        Chat(child, "c").events(f"[{action} {stage}]")


def test_a_hanging_engine_hears_neither_quit_nor_sigterm_but_can_be_killed(child: EngineChild) -> None:
    child.send(Chat(child, "c").request("[hang decode]"))
    skip_to(child, Token)
    child.send(Quit())
    child.process.terminate()
    with pytest.raises(ChildError, match="did not end"):
        child.wait(0.5)
    child.process.kill()
    assert child.wait() == -signal.SIGKILL


def test_a_line_that_is_no_event_is_found_out(child: EngineChild) -> None:
    with pytest.raises(ProtocolError, match="_Garbage"):
        Chat(child, "c").events("[garbage decode]")


@pytest.mark.parametrize("line", ["", "[]", "\x00", '{"type":"Ready"}', "ä" * 100_000])
def test_unreadable_lines_are_answered_in_their_turn(child: EngineChild, line: str) -> None:
    child.send_line(line)
    failed = child.event()
    assert isinstance(failed, Failed)
    assert failed.request_id == ""
    finished(Chat(child, "c").events("Hello."))


def test_bytes_that_are_no_utf8_are_an_unreadable_line(child: EngineChild) -> None:
    assert child.process.stdin is not None
    child.process.stdin.buffer.write(b"\xff\xfe\n")
    child.process.stdin.flush()
    assert isinstance(child.event(), Failed)
    finished(Chat(child, "c").events("Hello."))


def test_a_long_text_goes_through(child: EngineChild) -> None:
    text = "狐 " * 3000
    reply = finished(Chat(child, "c").events(text))
    assert reply.figures.prompt_tokens > 3000


def test_requests_are_answered_one_at_a_time_in_order(child: EngineChild) -> None:
    requests = [Chat(child, f"chat {i}").request(f"Hello {i}.") for i in range(4)]
    for request in requests:
        child.send(request)
    events = []
    while sum(isinstance(event, Finished) for event in events) < len(requests):
        events.append(child.event())
    owners = [event.request_id for event in events]
    assert [owner for owner, _ in itertools.groupby(owners)] == [request.request_id for request in requests]


def test_ctrl_c_belongs_to_the_window(child: EngineChild) -> None:
    child.process.send_signal(signal.SIGINT)
    finished(Chat(child, "c").events("Hello."))
    assert child.quit() == 0


def test_sigterm_while_idle_ends_the_process(child: EngineChild) -> None:
    child.process.terminate()
    assert child.wait(5) == 0
    assert child.stderr == ""


def test_a_window_that_is_gone_ends_the_process_quietly(child: EngineChild) -> None:
    """The window's end of stdout is closed while its end of stdin is still open, held by something else."""
    read, write = os.pipe()
    with subprocess.Popen(
        engine_command("fake"), stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE
    ) as orphan:
        assert orphan.stdin is not None
        assert orphan.stderr is not None
        os.close(write)
        with os.fdopen(read, "rb") as stdout:
            stdout.readline()
        orphan.stdin.write(encode(Load("1", "/")).encode() + b"\n")
        orphan.stdin.flush()
        assert orphan.wait(10) == 0
        assert orphan.stderr.read() == b""


def test_events_arrive_at_once(child: EngineChild) -> None:
    child.send(Chat(child, "c").request("[token-ms 50] [tokens 40]", with_sampling(GREEDY, max_tokens=40)))
    started_s = time.monotonic()
    skip_to(child, Token)
    assert time.monotonic() - started_s < 1.0, "the first token waited for others"


class _Engine(FakeEngine):
    """Notes which threads call it, and what becomes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, threading.Thread]] = []

    def load(self, request: Load, emit: Emit, cancelled: Callable[[], bool]) -> None:
        self.calls.append(("load", threading.current_thread()))
        super().load(request, emit, cancelled)

    def generate(self, request: Generate, emit: Emit, cancelled: Callable[[], bool]) -> None:
        self.calls.append(("generate", threading.current_thread()))
        super().generate(request, emit, cancelled)

    def forget(self, chat_id: str) -> None:
        self.calls.append(("forget", threading.current_thread()))
        raise KeyError(chat_id)

    def close(self) -> None:
        self.calls.append(("close", threading.current_thread()))


def test_every_engine_call_is_made_on_the_thread_that_runs_the_server() -> None:
    engine = _Engine()
    ours, theirs = os.pipe()
    from_server, to_us = os.pipe()
    with os.fdopen(ours, "rb") as stdin, os.fdopen(to_us, "wb") as stdout, os.fdopen(from_server, "rb") as events:
        requests = os.fdopen(theirs, "wb", buffering=0)
        for request in (Load("1", "/nowhere"), Forget("c")):
            requests.write(encode(request).encode() + b"\n")

        def hang_up() -> None:
            while not isinstance(decode_event(events.readline().decode()), Failed):
                pass
            assert isinstance(decode_event(events.readline().decode()), Failed), "forget's defect is told too"
            requests.close()

        reader = threading.Thread(target=hang_up)
        reader.start()
        assert EngineServer(stdin, stdout).run(lambda: engine) == 0
        reader.join()
    assert [name for name, _ in engine.calls] == ["load", "forget", "close"]
    assert {thread for _, thread in engine.calls} == {threading.current_thread()}


class _RestingEngine(_Engine):
    """Rests until it is wanted."""

    def rest(self, wanted: Callable[[], bool]) -> None:
        self.calls.append(("rest", threading.current_thread()))
        while not wanted():
            time.sleep(0.001)


def test_in_a_pause_the_engine_rests_until_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PAUSE_S", 0.05)
    engine = _RestingEngine()
    ours, theirs = os.pipe()
    from_server, to_us = os.pipe()
    with os.fdopen(ours, "rb") as stdin, os.fdopen(to_us, "wb") as stdout, os.fdopen(from_server, "rb") as events:
        requests = os.fdopen(theirs, "wb", buffering=0)

        def ask_late() -> None:
            assert isinstance(decode_event(events.readline().decode()), Ready)
            for _ in range(2):
                time.sleep(0.2)
                requests.write(encode(Load("1", "/nowhere")).encode() + b"\n")
                while not isinstance(decode_event(events.readline().decode()), Failed):
                    pass
            requests.write((encode(Load("1", "/nowhere")) + "\n" + encode(Forget("c")) + "\n").encode())
            requests.close()

        asker = threading.Thread(target=ask_late)
        asker.start()
        assert EngineServer(stdin, stdout).run(lambda: engine) == 0
        asker.join()
    names = [name for name, _ in engine.calls if name != "load"]
    assert names == ["rest", "rest", "forget", "close"], "what is to be forgotten is heard even at the end"
    assert {thread for _, thread in engine.calls} == {threading.current_thread()}


def test_prefill_is_cancelled_by_the_end_of_stdin(child: EngineChild) -> None:
    child.send(Chat(child, "c").request("[prefill-ms 20] " + "word " * 3000))
    skip_to(child, Prefill)
    child.close_stdin()
    assert child.wait(5) == 0


@pytest.mark.parametrize("action", ["defect", "fail"])
def test_measuring_that_goes_wrong_is_told_and_the_process_lives_on(
    child: EngineChild, tmp_path: Path, action: str
) -> None:
    folder = tmp_path / f"model [{action} measure]"
    folder.mkdir()
    assert isinstance(child.ask(Load("bad day", str(folder)))[-1], Loaded)
    *_, failed = child.ask(Measure("m", TextSource(), Effort(1, 64)))
    assert isinstance(failed, Failed)
    assert "measure" in failed.message
    assert bool(failed.detail) is (action == "defect")
    finished(Chat(child, "c").events("Hello."))


def test_measuring_is_cancelled_by_the_end_of_stdin(child: EngineChild, tmp_path: Path) -> None:
    folder = tmp_path / "model [measure-ms 50]"
    folder.mkdir()
    child.ask(Load("slow", str(folder)))
    child.send(Measure("m", TextSource(), Effort(3, 1024)))
    skip_to(child, Measuring)
    child.close_stdin()
    assert child.wait(5) == 0
