"""The states of a chat that the memory budget stopped, for tests/screenshots.py."""

from dataclasses import replace
from pathlib import Path

from PySide6.QtWidgets import QWidget

from app.chat.options import CacheMode
from app.main import Program
from app.viewmodels.reply import ChatState
from tests.ui.window_driver import until


async def outgrown(program: Program) -> None:
    """Show a chat that was stopped by the memory budget."""
    session, settings_model = program.models.session, program.models.settings
    folder = Path(program.models.model.facts.path).with_name("Qwen3-4B [weights 499]")
    folder.mkdir()
    settings_model.replace(replace(settings_model.settings, memory_budget_gb=0.5))
    session.load_model(str(folder))
    await until(lambda: session.state is ChatState.IDLE)
    session.set_options(replace(session.options, cache_mode=CacheMode.FP16))
    session.send("Tell me a story about a lantern. [tokens 600] [token-ms 0]")
    await until(lambda: session.state is ChatState.IDLE)


async def outgrown_big(program: Program) -> None:
    """Show the same in large text."""
    await outgrown(program)
    program.models.settings.zoom(8)


async def shorten(program: Program) -> QWidget:
    """Ask how the chat is to be made shorter."""
    await outgrown(program)
    program.window.transcript.memory_note.shorten_asked.emit()
    return program.window.findChild(QWidget, "shorten_dialog")


async def raise_budget(program: Program) -> QWidget:
    """Show the settings at the memory budget."""
    await outgrown(program)
    program.window.transcript.memory_note.budget_asked.emit()
    return program.window.findChild(QWidget, "settings_dialog")


MEMORY_SCENES = (
    ("outgrown", outgrown),
    ("outgrown-big", outgrown_big),
    ("shorten", shorten),
    ("raise-budget", raise_budget),
)
