"""How busy the window is, and how long it keeps a person waiting: `python -m app.interface_bench`.

Runs the whole window offscreen over the fake engine, in a folder of its own, three times: a long markdown answer is
written; a long conversation is opened; a long list of conversations is scrolled and searched. Prints the figures and
last one line of JSON with machine and versions. Shares are CPU time of the interface thread; pauses and the time to the
first picture are wall clock, so that whatever else the machine does makes them longer, never shorter. What the thread
itself computed meanwhile stands beside them as work.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.main import Program

WINDOW_SIZE = (1180, 760)
FRAME_S = 1 / 60
BEAT_MS = 10
"""How often the loop is asked whether it is there."""
SEARCHES = ("lantern", "in the garden", "zzz")
ONE_REDRAW_S = 0.03
"""Changes of a text that are nearer to each other belong to one redraw."""
PARTS = ("stream", "open", "list")
SETTLE_S = 0.5


class LoopWatch:
    """Measures how much of its time the interface thread computes, and how long it keeps a person waiting.

    A timer beats in its loop; where a beat is late, the loop was busy for so long, or the machine with something else:
    what the thread itself has computed between two beats is told beside it.
    """

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0
        self.longest_s = 0.0
        self.longest_work_s = 0.0
        self._beat_s = 0.0
        self._beat_cpu_s = 0.0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Measure what the interface thread does meanwhile."""
        from PySide6.QtCore import Qt, QTimer

        timer = QTimer(interval=BEAT_MS, timerType=Qt.TimerType.PreciseTimer)
        timer.timeout.connect(self._note_beat)
        began_s, cpu_began_s = time.perf_counter(), time.thread_time()
        self._beat_s, self._beat_cpu_s = began_s, cpu_began_s
        timer.start()
        try:
            yield
        finally:
            timer.stop()
            self._note_beat()
            self.wall_s += time.perf_counter() - began_s
            self.cpu_s += time.thread_time() - cpu_began_s

    def figures(self) -> dict[str, float]:
        """Return the thread's CPU time as a share in percent, longest pause and longest work in milliseconds."""
        return {
            "busy_percent": round(100 * self.cpu_s / self.wall_s, 1),
            "longest_pause_ms": round(1000 * self.longest_s, 1),
            "longest_work_ms": round(1000 * self.longest_work_s, 1),
            "wall_s": round(self.wall_s, 1),
        }

    def _note_beat(self) -> None:
        now_s, cpu_s = time.perf_counter(), time.thread_time()
        self.longest_s = max(self.longest_s, now_s - self._beat_s - BEAT_MS / 1000)
        self.longest_work_s = max(self.longest_work_s, cpu_s - self._beat_cpu_s)
        self._beat_s, self._beat_cpu_s = now_s, cpu_s


async def stream(characters: int, tokens_per_s: float) -> dict[str, Any]:
    """Have a long answer written, and measure until its last word is shown."""
    from app.viewmodels.reply import ChatState

    async with _window(context=max(4096, characters)) as program:
        session = program.models.session
        sampling = replace(session.options.sampling, max_tokens=characters)
        session.set_options(replace(session.options, sampling=sampling))
        watch, late = LoopWatch(), LoopWatch()
        pause_ms = max(1, round(1000 / tokens_per_s))
        redraws = _count_redraws(program)
        with watch.watch():
            program.window.composer.write(f"Explain. [markdown {characters}] [token-ms {pause_ms}]")
            program.window.composer.send()
            await _told(session.message_changed, lambda: len(session.messages[-1].message.text) > 0.9 * characters)
            redraws.clear()
            with late.watch():
                await _told(session.state_changed, lambda: session.state is ChatState.IDLE)
        figures = session.messages[-1].figures
        assert figures is not None
        shown = program.window.transcript.views[-1].text.toPlainText()
        return {
            "characters": len(session.messages[-1].message.text),
            "characters_shown": len(shown),
            "tokens_per_s": round(figures.decode_tokens_per_s, 1),
            **watch.figures(),
            "last_tenth": {**late.figures(), "redraws_per_s": round(len(redraws) / late.wall_s, 1)},
        }


async def open_chat(messages: int, rounds: int) -> dict[str, Any]:
    """Open a long conversation, from the click to its first picture."""

    def fill(program_store: Any) -> None:
        _fill(program_store, 1, messages, with_code=True)

    async with _window(fill=fill) as program:
        session = program.models.session
        (conversation,) = program.store.conversations()
        times_s, works_s = [], []
        for _ in range(rounds):
            session.new_chat()
            await asyncio.sleep(SETTLE_S)
            painted = _Painted()
            program.window.transcript.viewport().installEventFilter(painted.filter)
            began_s, cpu_began_s = time.perf_counter(), time.thread_time()
            program.window.sidebar.opened.emit(conversation.id)
            await _until(lambda: painted.at_s > 0, 0.0)  # noqa: B023
            times_s.append(painted.at_s - began_s)
            works_s.append(painted.cpu_s - cpu_began_s)
            program.window.transcript.viewport().removeEventFilter(painted.filter)
        ordered = sorted(times_s)
        return {
            "messages": messages,
            "first_paint_ms": round(1000 * statistics.median(ordered), 1),
            "first_paint_work_ms": round(1000 * statistics.median(works_s), 1),
            "first_time_ms": round(1000 * times_s[0], 1),
            "longest_ms": round(1000 * ordered[-1], 1),
        }


async def scroll_and_search(conversations: int, frames: int, key_s: float) -> dict[str, Any]:
    """Scroll through a long list and type searches into it; the longest pause of each."""
    async with _window(fill=lambda store: _fill(store, conversations, 2)) as program:
        sidebar = program.window.sidebar
        bar = sidebar.list.verticalScrollBar()
        scrolling, typing = LoopWatch(), LoopWatch()
        with scrolling.watch():
            for step in range(frames):
                bar.setValue(round(bar.maximum() * step / (frames - 1)))
                await asyncio.sleep(FRAME_S)
        per_search: dict[str, float] = {}
        for text in SEARCHES:
            one = LoopWatch()
            with one.watch(), typing.watch():
                for key in text:
                    sidebar.search.insert(key)
                    await asyncio.sleep(key_s)
                await asyncio.sleep(SETTLE_S)
                while sidebar.search.text():
                    sidebar.search.backspace()
                    await asyncio.sleep(key_s)
                await asyncio.sleep(SETTLE_S)
            per_search[text] = one.figures()["longest_pause_ms"]
        return {
            "conversations": conversations,
            "scroll": scrolling.figures(),
            "search": typing.figures(),
            "longest_pause_ms_by_search": per_search,
        }


class _Painted:
    """Notes when the turn of the loop is over in which a widget was painted for the first time."""

    def __init__(self) -> None:
        from PySide6.QtCore import QEvent, QObject, QTimer

        painted = self

        class Filter(QObject):
            def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
                if event.type() == QEvent.Type.Paint and not painted.seen:
                    painted.seen = True
                    QTimer.singleShot(0, self, painted._note)
                return False

        self.at_s = 0.0
        self.cpu_s = 0.0
        self.seen = False
        self.filter = Filter()

    def _note(self) -> None:
        self.at_s, self.cpu_s = time.perf_counter(), time.thread_time()


def _count_redraws(program: "Program") -> list[float]:
    """Return a list that gets an entry at every redraw of the last message, which changes its text several times."""
    redraws: list[float] = []

    def note() -> None:
        now_s = time.perf_counter()
        if not redraws or now_s - redraws[-1] > ONE_REDRAW_S:
            redraws.append(now_s)

    def follow(_: object) -> None:
        view = program.window.transcript.views[-1]
        view.text.document().contentsChanged.connect(note)

    program.models.session.message_added.connect(follow)
    return redraws


@asynccontextmanager
async def _window(fill: Callable[[Any], None] | None = None, context: int = 4096) -> Any:
    """Start the program with an idle fake engine in a folder of its own; end it in order."""
    from app.engine.command import engine_command
    from app.main import Program
    from app.paths import Paths
    from app.store.store import Store
    from app.viewmodels.reply import ChatState

    with tempfile.TemporaryDirectory() as home:
        root = Path(home)
        paths = Paths(data=root / "data", config=root / "config", cache=root / "cache", logs=root / "logs")
        model = root / f"fake [context {context}]"
        for folder in (paths.data, paths.config, paths.cache, paths.logs, model):
            folder.mkdir()
        if fill is not None:
            store = Store(paths.database)
            fill(store)
            store.close()
        program = Program(paths, engine_command("fake"), model)
        program.window.resize(*WINDOW_SIZE)
        program.start()
        await _until(lambda: program.models.session.state is ChatState.IDLE)
        await asyncio.sleep(SETTLE_S)
        try:
            yield program
        finally:
            program.window.close()
            await program.close()


def _fill(store: Any, conversations: int, messages: int, *, with_code: bool = False) -> None:
    """Write conversations as they come out of use: a question, an answer of some 800 characters or with code."""
    from app.chat.message import Message, Role
    from app.chat.options import ChatOptions
    from app.engine.fake_answer import long_answer

    answer = long_answer(1200)
    prose = answer.split("\n\n")[1:3]
    with store.together():
        for number in range(conversations):
            title = f"Conversation {number}: {prose[0][number % 40 : number % 40 + 24]}"
            made = store.create_conversation(title, "", ChatOptions())
            for turn in range(messages):
                role = Role.USER if turn % 2 == 0 else Role.ASSISTANT
                reply = answer if with_code else "\n\n".join(prose)
                store.add_message(made.id, Message(role, f"Question {turn}?" if role is Role.USER else reply))


async def _told(signal: Any, holds: Callable[[], bool], timeout_s: float = 3600.0) -> None:
    """Wait for what a signal tells: asking again and again would cost the thread time that is measured."""
    told = asyncio.Event()
    if holds():  # a short text may be at its end already
        return
    connection = signal.connect(lambda *_: told.set() if holds() else None)
    try:
        async with asyncio.timeout(timeout_s):
            await told.wait()
    finally:
        signal.disconnect(connection)


async def _until(holds: Callable[[], bool], poll_s: float = 0.02, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(poll_s)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; print figures and one line of JSON."""
    arguments = _parser().parse_args(argv)
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    import PySide6.QtCore
    from PySide6.QtWidgets import QApplication
    from qasync import QEventLoop

    from app.chat.plain import to_plain
    from app.engine.machine import machine_facts

    parts: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "stream": lambda: stream(arguments.characters, arguments.tokens_per_s),
        "open": lambda: open_chat(arguments.messages, arguments.rounds),
        "list": lambda: scroll_and_search(arguments.conversations, arguments.frames, arguments.key_ms / 1000),
    }
    application = QApplication(sys.argv[:1])
    application.setQuitOnLastWindowClosed(False)
    report: dict[str, Any] = {"benchmark": "interface"}
    loop = QEventLoop(application)
    with loop:
        for name in arguments.only or PARTS:
            report[name] = loop.run_until_complete(parts[name]())
            print(f"{name}: {json.dumps(report[name])}", flush=True)
    report["machine"] = {**to_plain(machine_facts()), "qt": PySide6.QtCore.qVersion(), "pyside": PySide6.__version__}
    print(json.dumps(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.interface_bench", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="one of the parts; may be given again")
    parser.add_argument("--characters", type=int, default=30_000, help="of the answer (stream)")
    parser.add_argument("--tokens-per-s", type=float, default=100.0, help="at which it is written (stream)")
    parser.add_argument("--messages", type=int, default=500, help="of the conversation (open)")
    parser.add_argument("--rounds", type=int, default=7, help="of opening it (open)")
    parser.add_argument("--conversations", type=int, default=10_000, help="in the list (list)")
    parser.add_argument("--frames", type=int, default=240, help="in which it is scrolled from end to end (list)")
    parser.add_argument("--key-ms", type=float, default=120.0, help="between two keys of a search (list)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
