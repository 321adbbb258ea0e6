"""Pictures of the window in every state: `QT_QPA_PLATFORM=offscreen python -m tests.screenshots FOLDER [STATE...]`.

The engine is the fake one, so that every state can be reached; conversations are written into the store beforehand.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from PySide6.QtCore import QSize
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QComboBox, QPushButton, QSpinBox, QWidget
from qasync import QEventLoop

from app.chat.figures import CacheFigures
from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions
from app.engine.command import engine_command
from app.main import Program
from app.paths import Paths
from app.resources import starter_model_path
from app.stats.history import SessionHistory
from app.stats.session import Row
from app.store.store import MessageState, Store
from app.ui.compare_window import CompareWindow
from app.ui.quality_window import QualityWindow
from app.ui.stats_window import StatsWindow
from app.viewmodels.reply import ChatState
from tests.chat_parts import FIGURES
from tests.model_scenes import MODEL_SCENES
from tests.stats.test_export import MACHINE

SIZES = (QSize(900, 600), QSize(1600, 1000))
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


class Studio:
    """Starts the program in a folder of its own and takes pictures of it."""

    def __init__(self, folder: Path, application: QApplication, suffix: str) -> None:
        self._folder = folder
        self._application = application
        self._suffix = suffix

    async def take(self, name: str, prepare: Callable[[Program], Awaitable[QWidget | None]], size: QSize) -> None:
        with tempfile.TemporaryDirectory() as home:
            root = Path(home)
            paths = Paths(data=root / "data", config=root / "config", cache=root / "cache", logs=root / "logs")
            for path in (paths.data, paths.config, paths.cache, paths.logs, root / "starter", root / "Qwen3-4B-4bit"):
                path.mkdir()
            shutil.copy(starter_model_path() / "config.json", root / "starter")
            if name != "first-start":
                _fill(paths)
            program = Program(paths, engine_command("fake"), root / "starter")
            program.window.resize(size)
            program.start()
            await _until(lambda: program.models.session.state is ChatState.IDLE)
            shown = await prepare(program) or program.window
            await asyncio.sleep(0.3)
            target = self._folder / f"{name}-{size.width()}x{size.height()}-{self._suffix}.png"
            shown.grab().save(str(target))
            program.window.close()
            await program.close()


async def first_start(program: Program) -> None:
    """Show what a person sees first."""


async def streaming(program: Program) -> None:
    """Show a reply that is being written."""
    program.window.composer.write("Tell me a story about a lantern. [tokens 400] [token-ms 8]")
    program.window.composer.send()
    await _until(lambda: program.models.session.state is ChatState.DECODING)
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
    await _until(lambda: program.models.session.state is ChatState.IDLE)
    program.window.composer.write("And why? [think 600] [token-ms 12]")
    program.window.composer.send()
    await _until(lambda: program.models.session.state is ChatState.DECODING)
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
        await _until(lambda: session.state is ChatState.IDLE)


async def attached(program: Program) -> None:
    """Show a file that was sent and one that goes with the next message."""
    attachments = program.models.attachments
    folder = Path(program.models.model.facts.path)
    for name, text in (("notes.md", "# Notes\n\n" + "A fox found a lantern.\n" * 40), ("big_files.py", ANSWER)):
        (folder / name).write_text(text)
    attachments.add([folder / "notes.md"])
    await _until(lambda: attachments.chips[0].detail.endswith("tokens"))
    program.window.composer.write("What are these notes about? [tokens 20] [token-ms 0]")
    program.window.composer.send()
    await _until(lambda: program.models.session.state is ChatState.IDLE)
    attachments.add([folder / "big_files.py"])
    await _until(lambda: attachments.chips[0].detail.endswith("tokens"))
    program.window.composer.write("And what does this do?")


async def reading(program: Program) -> None:
    """Show a prompt that is being read."""
    program.models.session.open(1)
    program.window.composer.write("And now in Rust? [prefill-ms 60]")
    program.window.composer.send()
    await _until(lambda: "Reading" in program.models.session.activity)
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
    await _until(lambda: program.models.session.state is ChatState.IDLE)
    program.models.session.open(1)


async def failed(program: Program) -> None:
    """Show an engine that died in the middle of a reply."""
    program.window.composer.write("Tell me a story. [tokens 60] [abort decode]")
    program.window.composer.send()
    await _until(lambda: program.models.session.state is ChatState.FAILED)


async def outgrown(program: Program) -> None:
    """Show a chat that was stopped by the memory budget."""
    session, settings_model = program.models.session, program.models.settings
    folder = Path(program.models.model.facts.path).with_name("Qwen3-4B [weights 499]")
    folder.mkdir()
    settings_model.replace(replace(settings_model.settings, memory_budget_gb=0.5))
    session.load_model(str(folder))
    await _until(lambda: session.state is ChatState.IDLE)
    session.set_options(replace(session.options, cache_mode=CacheMode.FP16))
    session.send("Tell me a story about a lantern. [tokens 600] [token-ms 0]")
    await _until(lambda: session.state is ChatState.IDLE)


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


async def token(program: Program) -> QWidget:
    """The access token for gated models, asked for by one of them."""
    program.window.commands.show_token("google/gemma-3-1b-it")
    while program.models.token.is_busy:
        await asyncio.sleep(0.01)
    return program.window.findChild(QWidget, "token_dialog")


async def about(program: Program) -> QWidget:
    """Show the versions."""
    program.window.actions_.about.trigger()
    return program.window.findChild(QWidget, "about_dialog")


async def licences(program: Program) -> QWidget:
    await about(program)
    program.window.findChild(QPushButton, "about_licences").click()
    return program.window.findChild(QWidget, "licences_dialog")


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
    await _until(lambda: program.models.session.state is ChatState.IDLE)
    window = await quality_empty(program)
    window.start()
    await asyncio.sleep(1.2)
    return window


async def quality(program: Program) -> QWidget:
    """Show a report."""
    window = await quality_empty(program)
    window.start()
    await _until(window.findChild(QWidget, "quality_report").isVisible)
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
            await _until(lambda: program.models.session.state is ChatState.IDLE)
    return window


async def stats_earlier(program: Program) -> QWidget:
    """Show a session of the day before, of which a line is broken."""
    window = await stats_empty(program)
    choice = window.findChild(QComboBox, "stats_session")
    choice.setCurrentIndex(1)
    choice.activated.emit(1)
    return window


def dark_palette() -> QPalette:
    """Return what macOS gives in its dark appearance, nearly: the offscreen platform has only a light one."""
    role = QPalette.ColorRole
    palette = QPalette(QColor("#323232"), QColor("#282828"))
    for group_role, colour in (
        (role.Base, "#1e1e1e"),
        (role.AlternateBase, "#262626"),
        (role.Text, "#e4e4e4"),
        (role.WindowText, "#e4e4e4"),
        (role.ButtonText, "#e4e4e4"),
        (role.ToolTipBase, "#323232"),
        (role.ToolTipText, "#e4e4e4"),
        (role.PlaceholderText, "#8a8a8a"),
        (role.Highlight, "#2f6fd0"),
        (role.HighlightedText, "#ffffff"),
        (role.Accent, "#3b82f6"),
        (role.Link, "#6aa5f8"),
    ):
        palette.setColor(group_role, QColor(colour))
    for group_role in (role.Text, role.WindowText, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, group_role, QColor("#7a7a7a"))
    return palette


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
    ("failed", failed),
    ("outgrown", outgrown),
    ("outgrown-big", outgrown_big),
    ("shorten", shorten),
    ("raise-budget", raise_budget),
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
)


def _fill(paths: Paths) -> None:
    store = Store(paths.database)
    first = store.create_conversation("Reading big files line by line", "", ChatOptions())
    for role, text in ((Role.USER, QUESTION), (Role.ASSISTANT, ANSWER)):
        store.add_message(first.id, Message(role, text), MessageState.COMPLETE)
    for title in ("A fox who finds a lantern", "Names for a quiet grey cat", "Plan for the allotment in spring"):
        made = store.create_conversation(title, "", replace(ChatOptions(), cache_mode=CacheMode.FP16))
        store.add_message(made.id, Message(Role.USER, title), MessageState.COMPLETE)
    store.close()
    history = SessionHistory(paths.sessions, lambda: datetime(2026, 11, 26, 18, 3, tzinfo=UTC))
    for tokens in (412, 1893, 5120, 9800, 16_384):
        for mode in CacheMode:
            history.append(_row(tokens, mode), MACHINE)
    (file,) = paths.sessions.iterdir()
    file.write_text(file.read_text(encoding="utf-8") + "{", encoding="utf-8")


def _row(tokens: int, mode: CacheMode) -> Row:
    """Return a reply whose figures are made up, with a slope that can be seen."""
    fp16_bytes = tokens * 147_456
    own_bytes = fp16_bytes * 9 // 32 if mode is CacheMode.INT4 else fp16_bytes
    cache = CacheFigures(mode, 32, "metal, fused kernels", tokens, *[own_bytes] * 2, *[fp16_bytes] * 2, 36, 36)
    speed = 1 / (0.0125 + own_bytes * 9e-12)
    figures = replace(
        FIGURES, model="example", cache=cache, decode_tokens_per_s=speed, requested_mode=mode, ttft_s=tokens / 900
    )
    return Row("A fox who finds a lantern", figures)


async def _until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.02)


async def _all(studio: Studio, wanted: tuple[str, ...]) -> None:
    for name, prepare in SCENES:
        for size in SIZES:
            if not wanted or name in wanted:
                await studio.take(name, prepare, size)


def main(folder: Path, wanted: tuple[str, ...]) -> None:
    """Take every picture, or the named ones, in light and in dark."""
    folder.mkdir(parents=True, exist_ok=True)
    application = QApplication([])
    application.setQuitOnLastWindowClosed(False)
    loop = QEventLoop(application)
    with loop:
        for suffix, palette in (("light", application.palette()), ("dark", dark_palette())):
            application.setPalette(palette)
            loop.run_until_complete(_all(Studio(folder, application, suffix), wanted))


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]))
