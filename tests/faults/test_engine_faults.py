"""What the engine's process may do to the window, at every stage: the text stays, the reason and a way on are shown.

`make test` takes the kinds of faults, and every stage, once; `make soak` takes every fault at every stage.
"""

import asyncio
import os
import signal
import sys

import pytest
from PySide6.QtWidgets import QLabel

from app.store.store import MessageState
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.reply import ChatState
from tests.faults.faulty_engine import FAULTS, FAULTY_TOKEN

REASONS = {
    "killed": "killed, often for want of memory",
    "segmentation_fault": "segmentation fault",
    "exit_0": "stopped by itself (exit status 0)",
    "exit_3": "stopped by itself (exit status 3)",
    "garbage": "said something Nibble cannot read",
    "no_utf8": "said something Nibble cannot read",
    "half_line_then_exit": "stopped by itself (exit status 3)",
    "endless_line": "a line that does not end",
}
SILENT = ("hang", "half_line_then_hang")
STAGES = ("start", "load", "prefill", "decode", "idle")
FAST = [
    ("start", "killed"),
    ("load", "exit_3"),
    ("prefill", "segmentation_fault"),
    ("decode", "killed"),
    ("decode", "hang"),
    ("decode", "garbage"),
    ("decode", "half_line_then_exit"),
    ("decode", "endless_line"),
    ("idle", "killed"),
]
SLOW = [(s, f) for s in STAGES for f in FAULTS if f != "out_of_memory" and (s, f) not in FAST]
FAST_SHUTDOWN = ["killed", "hang"]
SLOW_SHUTDOWN = [f for f in FAULTS if f not in FAST_SHUTDOWN]
SILENCE_S = 0.4


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Have silence told after less than half a second."""
    monkeypatch.setitem(EngineClient.__init__.__kwdefaults__, "silence_s", SILENCE_S)


def stored(driver) -> list[tuple[str, MessageState]]:
    conversation = driver.session.conversation
    assert conversation is not None
    return [(m.message.text, m.state) for m in driver.program.store.messages(conversation.id)]


def notice(driver) -> str:
    assert driver.find("notice_bar").isVisible()
    return driver.find("notice_message", QLabel).text()


def check(driver, stage: str, fault: str) -> None:
    """Bring the window to the fault, read what it says, restart, and go on."""
    asked = stage in ("prefill", "decode", "idle")
    if asked:
        driver.until_idle()
        driver.say("Hello [tokens 40] [token-ms 20]")
    silent = fault in SILENT and stage != "idle"
    if silent:
        # Before, a slow start may count as silence too.
        driver.until(lambda: driver.marker.exists() and driver.program.engine.is_silent)
        assert "has said nothing" in notice(driver)
        assert driver.window.actions_.restart.isEnabled()
    elif fault in SILENT:
        driver.until_idle()  # nothing is owed, so that only the next message finds out
        driver.say("Are you there?")
        driver.until(lambda: driver.program.engine.is_silent)
    else:
        driver.until(lambda: driver.session.state is ChatState.FAILED)
        assert REASONS[fault] in notice(driver)
    before = driver.texts()
    if stage == "decode":
        shown = before[1]
        assert len(shown.split()) == FAULTY_TOKEN - 1, "all that was said is shown"
    driver.click("restart_engine")
    driver.until_idle()
    assert not driver.find("notice_bar").isVisible()
    if asked:
        text, state = stored(driver)[1]
        assert state is (MessageState.COMPLETE if stage == "idle" else MessageState.FAILED)
        assert len(text.split()) == {"prefill": 0, "decode": FAULTY_TOKEN - 1, "idle": 40}[stage]
        assert driver.texts()[:2] == before[:2], "what was shown stays"
    driver.chat("Still there?")
    assert stored(driver)[-1][1] is MessageState.COMPLETE
    assert stored(driver)[-1][0]


@pytest.mark.parametrize(("stage", "fault"), FAST)
def test_the_window_outlives_its_engine_and_goes_on(driver_of, stage, fault):
    check(driver_of(stage, fault), stage, fault)


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "fault"), SLOW)
def test_every_fault_at_every_stage(driver_of, stage, fault):
    check(driver_of(stage, fault), stage, fault)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce RLIMIT_AS")
def test_want_of_memory_fails_the_reply_and_the_engine_lives_on(driver_of):
    driver = driver_of("decode", "out_of_memory")
    driver.until_idle()
    driver.chat("Hello [tokens 40]")
    assert notice(driver) == "The engine ran out of memory."
    text, state = stored(driver)[1]
    assert (len(text.split()), state) == (FAULTY_TOKEN - 1, MessageState.FAILED)
    driver.chat("Still there?")
    assert stored(driver)[-1][1] is MessageState.COMPLETE


@pytest.mark.parametrize("fault", [*FAST_SHUTDOWN, *(pytest.param(f, marks=pytest.mark.soak) for f in SLOW_SHUTDOWN)])
def test_an_engine_that_fails_in_its_shutdown_holds_up_nothing(loop, driver_of, monkeypatch, fault):
    for grace in ("quit_grace_s", "terminate_grace_s"):
        monkeypatch.setitem(EngineClient.__init__.__kwdefaults__, grace, 0.3)
    driver = driver_of("shutdown", fault)
    driver.until_idle()
    driver.chat("Hello")
    driver.window.close()
    loop.run_until_complete(driver.program.close())
    assert not driver.program.engine.is_running
    assert not driver.find("notice_bar").isVisible()


def test_a_message_sent_before_the_death_is_noticed_is_kept(driver_of):
    driver = driver_of("shutdown", "exit_0")
    driver.until_idle()
    process = driver.program.engine._child._process
    os.kill(process.processId(), signal.SIGKILL)
    driver.say("Hello")  # Qt has not heard of it yet
    driver.until(lambda: driver.session.state is ChatState.FAILED)
    assert stored(driver) == [("Hello", MessageState.COMPLETE), ("", MessageState.FAILED)]
    driver.click("restart_engine")
    driver.until_idle()
    driver.window.actions_.regenerate.trigger()
    driver.until_idle()
    assert stored(driver)[-1][1] is MessageState.COMPLETE


def test_a_stop_that_is_not_heard_ends_in_a_restart(driver_of):
    driver = driver_of("decode", "hang")
    driver.until_idle()
    driver.say("Hello [tokens 40]")
    driver.until(driver.marker.exists)
    driver.window.actions_.stop.trigger()
    assert driver.session.state is ChatState.STOPPING
    driver.until(lambda: driver.program.engine.is_silent)
    driver.window.actions_.restart.trigger()
    driver.until_idle()
    assert stored(driver)[1][1] is MessageState.FAILED


def test_an_engine_that_slept_in_the_middle_of_a_reply_goes_on(loop, driver_of):
    """A laptop that sleeps stops every process: for the window, time passes in which nothing is said."""
    driver = driver_of("shutdown", "exit_0")
    driver.until_idle()
    driver.say("Hello [tokens 200] [token-ms 10]")
    driver.until(lambda: driver.session.state is ChatState.DECODING)
    process = driver.program.engine._child._process
    os.kill(process.processId(), signal.SIGSTOP)
    driver.until(lambda: driver.program.engine.is_silent)
    assert "has said nothing" in notice(driver)
    os.kill(process.processId(), signal.SIGCONT)
    driver.until_idle()
    assert not driver.find("notice_bar").isVisible(), "the notice goes with its cause"
    text, state = stored(driver)[1]
    assert (len(text.split()), state) == (200, MessageState.COMPLETE)
    figures = driver.session.messages[1].figures
    assert figures is not None
    assert figures.elapsed_s > SILENCE_S
    loop.run_until_complete(asyncio.sleep(1.5 * SILENCE_S))
    assert not driver.program.engine.is_silent, "who owes nothing may be silent"
    driver.chat("Still there?")
    assert stored(driver)[-1][1] is MessageState.COMPLETE
