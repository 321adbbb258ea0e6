"""The window's process is killed, stopped, or started twice: what is in the store then."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.engine.child import EngineChild
from app.engine.protocol import Generate, Load, Token
from app.paths import default_paths
from app.store.store import MessageState, Store
from tests.faults.killing import await_end, await_line, excess_ms, kill_many, read_stamps, start_window, summary

SLEEP_S = 3.0


def stored_reply(home):
    store = Store(home / "data" / "nibble.sqlite3")
    assert not store.notice
    (conversation,) = store.conversations()
    reply = store.messages(conversation.id)[-1]
    store.close()
    return reply


@pytest.mark.slow
def test_a_kill_costs_at_most_half_a_second_of_the_reply(nibble_home):
    losses = kill_many(nibble_home, 5, seed=int(time.time()))
    assert not any(excess_ms(loss) for loss in losses), summary(losses)
    assert any(loss.said_tokens for loss in losses)


@pytest.mark.soak
def test_two_hundred_kills_cost_at_most_half_a_second_each(nibble_home, capsys):
    losses = kill_many(nibble_home, 200, seed=8)
    with capsys.disabled():
        print(f"\n{summary(losses)}")
    assert not any(excess_ms(loss) for loss in losses)
    assert sum(loss.said_tokens > 50 for loss in losses) > 100, "most kills came in the middle of a reply"


@pytest.mark.slow
def test_a_laptop_that_slept_in_the_middle_of_a_reply_loses_nothing_of_it(nibble_home, tmp_path):
    stamps = tmp_path / "stamps.txt"
    window = start_window(nibble_home, stamps, "Hello [tokens 150] [token-ms 10]")
    try:
        await_line(window, "writing")
        engine, said = read_stamps(stamps)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in (engine, window.pid):
                os.kill(process, number)
            if number is signal.SIGSTOP:
                time.sleep(SLEEP_S)
        await_line(window, "idle")
        window.terminate()
        assert window.wait(30) == 0
    finally:
        window.kill()
        window.communicate()
    await_end(engine)
    _, said = read_stamps(stamps)
    assert max(b.at_s - a.at_s for a, b in itertools.pairwise(said)) >= SLEEP_S * 0.9, "it did sleep"
    reply = stored_reply(nibble_home)
    assert reply.state is MessageState.COMPLETE
    assert reply.message.text == "".join(token.text for token in said)
    assert len(said) == 150


@pytest.mark.slow
def test_a_second_window_on_the_same_data_says_so_and_ends(nibble_home, tmp_path):
    first = start_window(nibble_home, tmp_path / "first.txt", "Hello [tokens 4000] [token-ms 10]")
    try:
        await_line(first, "writing")
        second = start_window(nibble_home, tmp_path / "second.txt", "Me too")
        said, errors = second.communicate(timeout=60)
        assert said.startswith("refused: Nibble is open already")
        assert errors == ""
        assert second.returncode == 1
        assert not (tmp_path / "second.txt").exists(), "no engine was started"
        assert stored_reply(nibble_home).state is MessageState.STREAMING, "nor was the first one's reply touched"
    finally:
        first.kill()
        first.communicate()
    await_end(read_stamps(tmp_path / "first.txt")[0])
    third = start_window(nibble_home, tmp_path / "third.txt", "Hello [tokens 3]")
    try:
        await_line(third, "writing")  # a killed window's lock is gone with it
        await_line(third, "idle")
        third.terminate()
        assert third.wait(30) == 0
    finally:
        third.kill()
        third.communicate()
    store = Store(default_paths().database)
    states = [store.messages(c.id)[-1].state for c in sorted(store.conversations(), key=lambda c: c.id)]
    store.close()
    assert states == [MessageState.CANCELLED, MessageState.COMPLETE]


@pytest.mark.slow
def test_an_engine_that_hangs_does_not_outlive_its_window(tmp_path):
    """The real `serve`, with a grace of half a second: deaf in decode, and its stdin ends."""
    code = "from app.engine import process; process.ORPHAN_GRACE_S = 0.5; raise SystemExit(process.serve('fake'))"
    with EngineChild([sys.executable, "-c", code]) as child:
        child.ask(Load("load", str(tmp_path)))
        child.send(Generate("reply", "chat", (Message(Role.USER, "[hang decode]"),), ChatOptions()))
        while not isinstance(child.event(), Token):
            pass
        with pytest.raises(subprocess.TimeoutExpired):
            child.process.wait(1.0)
        child.close_stdin()
        assert child.wait(10) == 1
        assert "Timeout" in child.stderr
