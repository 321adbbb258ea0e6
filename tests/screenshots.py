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
from PySide6.QtGui import QColor, QIcon, QPalette
from PySide6.QtWidgets import QApplication, QWidget
from qasync import QEventLoop

from app.chat.figures import CacheFigures
from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions
from app.engine.command import engine_command
from app.main import Program
from app.paths import Paths
from app.resources import icon_path, starter_model_path
from app.stats.history import SessionHistory
from app.stats.session import Row
from app.store.store import MessageState, Store
from app.viewmodels.reply import ChatState
from tests.chat_parts import FIGURES
from tests.screenshot_scenes import ANSWER, QUESTION, SCENES, until
from tests.stats.test_export import MACHINE

SIZES = (QSize(900, 600), QSize(1600, 1000))


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
            await until(lambda: program.models.session.state is ChatState.IDLE)
            shown = await prepare(program) or program.window
            await asyncio.sleep(0.3)
            target = self._folder / f"{name}-{size.width()}x{size.height()}-{self._suffix}.png"
            shown.grab().save(str(target))
            program.window.close()
            await program.close()


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
    for minute, tokens in enumerate((412, 1893, 5120, 9800, 16_384)):
        for mode in CacheMode:
            history.append(_row(tokens, mode, minute), MACHINE)
    (file,) = paths.sessions.iterdir()
    file.write_text(file.read_text(encoding="utf-8") + "{", encoding="utf-8")


def _row(tokens: int, mode: CacheMode, minute: int) -> Row:
    """Return a reply whose figures are made up, with a slope that can be seen."""
    fp16_bytes = tokens * 147_456
    own_bytes = fp16_bytes * 9 // 32 if mode is CacheMode.INT4 else fp16_bytes
    cache = CacheFigures(mode, 32, "metal, fused kernels", tokens, *[own_bytes] * 2, *[fp16_bytes] * 2, 36, 36)
    speed = 1 / (0.0125 + own_bytes * 9e-12)
    started_at = f"2026-11-26T18:{3 + 4 * minute:02}:{12 if mode is CacheMode.INT4 else 49}+00:00"
    figures = replace(
        FIGURES,
        model="example",
        started_at=started_at,
        cache=cache,
        decode_tokens_per_s=speed,
        requested_mode=mode,
        ttft_s=tokens / 900,
    )
    return Row("A fox who finds a lantern", figures)


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
    application.setWindowIcon(QIcon(str(icon_path())))
    loop = QEventLoop(application)
    with loop:
        for suffix, palette in (("light", application.palette()), ("dark", dark_palette())):
            application.setPalette(palette)
            loop.run_until_complete(_all(Studio(folder, application, suffix), wanted))


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]))
