"""Drives the whole window over the fake engine's own process."""

import asyncio

from PySide6.QtWidgets import QAbstractButton, QWidget

from app.main import Program
from app.viewmodels.reply import ChatState


async def until(holds, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.01)


class Driver:
    """Does to the window what a person does, and waits for what comes of it."""

    def __init__(self, loop, program: Program) -> None:
        self._loop = loop
        self.program = program
        self.window = program.window
        self.session = program.models.session

    def until(self, holds) -> None:
        self._loop.run_until_complete(until(holds))

    def until_idle(self) -> None:
        self.until(lambda: self.session.state is ChatState.IDLE)

    def say(self, text: str) -> None:
        self.window.composer.write(text)
        self.window.composer.send()

    def chat(self, text: str) -> None:
        self.say(text)
        self.until_idle()

    def find(self, name: str, kind: type = QWidget):
        found = self.window.findChild(kind, name)
        assert found is not None, name
        return found

    def click(self, name: str) -> None:
        button = self.find(name, QAbstractButton)
        assert button.isVisible(), name
        assert button.isEnabled(), name
        button.click()

    def texts(self) -> list[str]:
        return [view.text.toPlainText() for view in self.window.transcript.views]
