"""The promises over the real engine and the starter: it is killed while it opens the model, and while it writes."""

import os
import signal

import pytest
from PySide6.QtWidgets import QLabel

from app.engine.command import engine_command
from app.main import Program
from app.paths import default_paths
from app.resources import starter_model_path
from app.store.store import MessageState
from app.viewmodels.reply import ChatState
from tests.ui.window_driver import Driver, until

LOAD_S = 300.0
"""The first opening calibrates the model, on a busy CPU."""


@pytest.mark.soak
def test_the_real_engine_is_killed_and_restarted(loop):
    driver = Driver(loop, Program(default_paths(), engine_command("child"), starter_model_path()))
    session = driver.session

    def wait(holds) -> None:
        loop.run_until_complete(until(holds, LOAD_S))

    def kill() -> None:
        os.kill(driver.program.engine._child._process.processId(), signal.SIGKILL)
        wait(lambda: session.state is ChatState.FAILED)
        assert "killed" in driver.find("notice_message", QLabel).text()
        driver.click("restart_engine")

    try:
        driver.program.start()
        wait(lambda: session.state is ChatState.LOADING and session.activity.count(":"))
        kill()
        wait(lambda: session.state is ChatState.IDLE)
        driver.say("Tell me a long story.")
        wait(lambda: len(session.messages) == 2 and session.messages[1].message.text.count(" ") > 5)
        kill()
        written = session.messages[1].message.text
        wait(lambda: session.state is ChatState.IDLE)
        driver.say("Go on.")
        wait(lambda: session.state is ChatState.IDLE)
        stored = driver.program.store.messages(session.conversation.id)
        assert [m.state for m in stored][1::2] == [MessageState.FAILED, MessageState.COMPLETE]
        assert stored[1].message.text == written
        assert stored[3].message.text
    finally:
        driver.window.close()
        loop.run_until_complete(driver.program.close())
        driver.window.deleteLater()
