"""The states of the window that pictures are taken of: each a coroutine that leads a program there."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QComboBox, QPushButton, QSpinBox, QWidget

from app.chat.options import CacheMode
from app.main import Program
from app.ui.compare_window import CompareWindow
from app.ui.quality_window import QualityWindow
from app.ui.stats_window import StatsWindow
from app.viewmodels.reply import ChatState
from tests.memory_scenes import MEMORY_SCENES
from tests.model_scenes import MODEL_SCENES

QUESTION = "How can I read a big file line by line in Python, and what does it cost?"
ANSWER = """You can iterate over the file object. It reads **lazily**, so memory stays flat however large the file is.

```python
from pathlib import Path


def longest_line(path: Path) -> int:
    \"\"\"Return the length of the longest line.\"\"\"
    longest = 0
    with path.open(encoding="utf-8") as lines:
        for line in lines:  # one line at a time
            longest = max(longest, len(line.rstrip("\\n")))
    return longest
```

Three ways compared, on a file of one gigabyte:

| Way | Memory | Time |
|:----|-------:|-----:|
| `read()` | 1.0 GB | 1.9 s |
| `readlines()` | 3.2 GB | 4.1 s |
| iteration | 0.1 MB | 2.4 s |

### Which one to take

1. Iteration, nearly always.
2. `read()` where the whole text is needed at once.

Inline code such as `for line in lines` stays readable, and so do [links](https://docs.python.org/3/) and *emphasis*.
Raw HTML such as <b>this</b> is shown as it was written.
"""


async def until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.02)


async def first_start(program: Program) -> None:
    """Show what a person sees first."""


async def streaming(program: Program) -> None:
    """Show a reply that is being written."""
    program.window.composer.write("Tell me a story about a lantern. [tokens 400] [token-ms 8]")
    program.window.composer.send()
    await until(lambda: program.models.session.state is ChatState.DECODING)
    await asyncio.sleep(1.6)


async def deleted(program: Program) -> None:
    """Show pins and groups, and the notice after a deletion."""
    program.models.session.set_pinned(1, True)
    program.models.session.open(3)
    program.window.actions_.delete.trigger()
    program.models.session.open(1)


async def thinking(program: Program) -> None:
    """Show reasoning that goes on, unfolded, below one that is folded."""
    program.window.composer.write("Which lantern is the brightest? [think 60] [tokens 30] [token-ms 0]")
    program.window.composer.send()
    await until(lambda: program.models.session.state is ChatState.IDLE)
    program.window.composer.write("And why? [think 600] [token-ms 12]")
    program.window.composer.send()
    await until(lambda: program.models.session.state is ChatState.DECODING)
    program.window.transcript.views[-1].reasoning.toggle.click()
    await asyncio.sleep(1.2)


async def find(program: Program) -> None:
    """Show what was found in a chat."""
    program.models.session.open(1)
    await asyncio.sleep(0.2)
    program.window.actions_.find.trigger()
    program.window.find_bar.edit.setText("line")


async def versions(program: Program) -> None:
    """Show a chat in which a message was edited and a reply written again."""
    session = program.models.session
    for ask in (
        lambda: session.send("Name a lantern. [tokens 30] [token-ms 0]"),
        lambda: session.edit(session.messages[0].id, "Name a brighter lantern. [tokens 30] [token-ms 0]"),
        session.regenerate,
    ):
        ask()
        await until(lambda: session.state is ChatState.IDLE)


async def attached(program: Program) -> None:
    """Show a file that was sent and one that goes with the next message."""
    attachments = program.models.attachments
    folder = Path(program.models.model.facts.path)
    for name, text in (("notes.md", "# Notes\n\n" + "A fox found a lantern.\n" * 40), ("big_files.py", ANSWER)):
        (folder / name).write_text(text)
    attachments.add([folder / "notes.md"])
    await until(lambda: attachments.chips[0].detail.endswith("tokens"))
    program.window.composer.write("What are these notes about? [tokens 20] [token-ms 0]")
    program.window.composer.send()
    await until(lambda: program.models.session.state is ChatState.IDLE)
    attachments.add([folder / "big_files.py"])
    await until(lambda: attachments.chips[0].detail.endswith("tokens"))
    program.window.composer.write("And what does this do?")


async def reading(program: Program) -> None:
    """Show a prompt that is being read."""
    program.models.session.open(1)
    program.window.composer.write("And now in Rust? [prefill-ms 60]")
    program.window.composer.send()
    await until(lambda: "Reading" in program.models.session.activity)
    await asyncio.sleep(0.8)


async def long_chat(program: Program) -> None:
    """Show code and a table."""
    program.models.session.open(1)


async def long_chat_top(program: Program) -> None:
    """Show the same from its start."""
    program.models.session.open(1)
    await asyncio.sleep(0.2)
    program.window.transcript.verticalScrollBar().setValue(0)


async def other_model(program: Program) -> None:
    """Show a model that is not the starter."""
    program.models.session.load_model(str(program.models.model.facts.path).replace("starter", "Qwen3-4B-4bit"))
    await until(lambda: program.models.session.state is ChatState.IDLE)
    program.models.session.open(1)


async def chat_of_another(program: Program) -> None:
    """Show a chat that was written with another model than the one that is open."""
    session, starter = program.models.session, ""
    for path in (str(program.models.model.facts.path).replace("starter", "Qwen3-4B-4bit"), starter):
        session.load_model(path)
        await until(lambda: session.state is ChatState.IDLE)
        if path:
            session.send("Name a lantern. [tokens 30] [token-ms 0]")
            await until(lambda: session.state is ChatState.IDLE)


async def failed(program: Program) -> None:
    """Show an engine that died in the middle of a reply."""
    program.window.composer.write("Tell me a story. [tokens 60] [abort decode]")
    program.window.composer.send()
    await until(lambda: program.models.session.state is ChatState.FAILED)


async def settings(program: Program) -> QWidget:
    """Show the settings."""
    program.window.actions_.settings.trigger()
    dialog = program.window.findChild(QWidget, "settings_dialog")
    dialog.resize(600, 860)
    return dialog


async def big_text(program: Program) -> None:
    """Show a conversation with text half as big again."""
    program.models.session.open(1)
    program.models.settings.zoom(5)


async def settings_big(program: Program) -> QWidget:
    """Show the settings in the same size, no larger than the window."""
    dialog = await settings(program)
    program.models.settings.zoom(5)
    dialog.resize(QSize(600, 860).boundedTo(program.window.size()))
    return dialog


async def options(program: Program) -> QWidget:
    """Show one chat's settings."""
    program.window.actions_.options.trigger()
    return program.window.findChild(QWidget, "options_dialog")


async def about(program: Program) -> QWidget:
    """Show the versions."""
    program.window.actions_.about.trigger()
    return program.window.findChild(QWidget, "about_dialog")


async def licences(program: Program) -> QWidget:
    """Show the licences of what the app holds."""
    await about(program)
    program.window.findChild(QPushButton, "about_licences").click()
    return program.window.findChild(QWidget, "licences_dialog")


async def token(program: Program) -> QWidget:
    """Show the access token for gated models, asked for by one of them."""
    program.window.commands.show_token("google/gemma-3-1b-it")
    await until(lambda: not program.models.token.is_busy)
    return program.window.findChild(QWidget, "token_dialog")


async def compare(program: Program) -> QWidget:
    """Show a finished comparison."""
    program.window.composer.write("Tell me a story about a fox who finds a lantern. [tokens 80] [part 30]")
    program.window.actions_.compare.trigger()
    window = program.window.findChild(CompareWindow)
    done = asyncio.get_running_loop().create_future()
    window.compared.connect(lambda _: done.set_result(None))
    window.resize(window.sizeHint().boundedTo(program.window.size()))
    window.findChild(QSpinBox, "compare_rounds").setValue(3)
    window.start()
    await done
    return window


async def quality_empty(program: Program) -> QWidget:
    """Show what measuring quality is, before it is done."""
    program.window.actions_.quality.trigger()
    window = program.window.findChild(QualityWindow)
    window.resize(QSize(1180, 660).boundedTo(program.window.size()))
    return window


async def quality_running(program: Program) -> QWidget:
    """Show how far measuring is."""
    slow = Path(program.models.model.facts.path).with_name("Qwen3-4B [measure-ms 60]")
    slow.mkdir()
    program.models.session.load_model(str(slow))
    await until(lambda: program.models.session.state is ChatState.IDLE)
    window = await quality_empty(program)
    window.start()
    await asyncio.sleep(1.2)
    return window


async def quality(program: Program) -> QWidget:
    """Show a report."""
    window = await quality_empty(program)
    window.start()
    await until(window.findChild(QWidget, "quality_report").isVisible)
    return window


async def stats_empty(program: Program) -> QWidget:
    """Show the session's figures before there is one."""
    program.window.actions_.stats.trigger()
    window = program.window.findChild(StatsWindow)
    window.resize(QSize(1180, 720).boundedTo(program.window.size()))
    return window


async def stats(program: Program) -> QWidget:
    """Show the replies of a session, some in int4 and some in fp16."""
    window = await stats_empty(program)
    for title, mode in (("A fox who finds a lantern", CacheMode.INT4), ("The same again", CacheMode.FP16)):
        program.models.session.new_chat()
        program.models.session.set_options(replace(program.models.session.options, cache_mode=mode))
        for turn, tokens in enumerate((60, 110, 40, 150, 90, 120)):
            program.models.session.send(f"{title}, part {turn + 1} [tokens {tokens}]")
            await until(lambda: program.models.session.state is ChatState.IDLE)
    return window


async def stats_earlier(program: Program) -> QWidget:
    """Show a session of the day before, of which a line is broken."""
    window = await stats_empty(program)
    choice = window.findChild(QComboBox, "stats_session")
    choice.setCurrentIndex(1)
    choice.activated.emit(1)
    return window


SCENES = (
    ("first-start", first_start),
    ("streaming", streaming),
    ("deleted", deleted),
    ("thinking", thinking),
    ("find", find),
    ("versions", versions),
    ("attached", attached),
    ("reading", reading),
    ("long-chat", long_chat),
    ("long-chat-top", long_chat_top),
    ("other-model", other_model),
    ("chat-of-another", chat_of_another),
    ("failed", failed),
    ("settings", settings),
    ("big-text", big_text),
    ("settings-big", settings_big),
    ("options", options),
    ("about", about),
    ("licences", licences),
    ("token", token),
    ("compare", compare),
    ("quality-empty", quality_empty),
    ("quality-running", quality_running),
    ("quality", quality),
    ("stats-empty", stats_empty),
    ("stats", stats),
    ("stats-earlier", stats_earlier),
    *MODEL_SCENES,
    *MEMORY_SCENES,
)
