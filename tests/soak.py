"""A day's worth of chat in one go, `python -m tests.soak`: nothing may grow that should not.

First the whole window, offscreen, over the fake engine: turns in several conversations, with chats begun, reopened,
edited, rewritten, stopped and switched to fp16 on the way, and windows opened and closed. Then the engine over
the starter model, its conversations in turns, in both modes. Memory (resident set), threads, open files and child
processes of each process are read between turns. What is taken in the first tenth is warm-up; from there on to the end
memory may grow by so much a turn, and the others not at all. Prints a line a sample and ends with status 1 where
something grew.
"""

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions, Sampling
from app.engine.child import EngineChild
from app.engine.command import engine_command
from app.engine.protocol import Finished, Generate, Load, Ready
from app.resources import starter_model_path

WINDOW_BYTES_A_TURN = 6_000
"""A reply's figures and texts, which the session keeps to the end, take some 2 KB."""
ENGINE_BYTES_A_TURN = 20_000
CHATS = 6
MESSAGES_OF_A_CHAT = 30
"""After so many a chat is begun anew."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process holds after some turns."""

    turn: int
    resident_bytes: int
    threads: int
    files: int
    children: int

    @classmethod
    def of(cls, turn: int, pid: int) -> "Sample":
        """Read /proc."""
        folder = Path(f"/proc/{pid}")
        pages = int((folder / "statm").read_text().split()[1])
        tasks = list((folder / "task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
        files = len(list((folder / "fd").iterdir()))
        return cls(turn, pages * os.sysconf("SC_PAGE_SIZE"), len(tasks), files, len(children))

    def __str__(self) -> str:
        held = f"{self.threads} threads, {self.files} files, {self.children} children"
        return f"turn {self.turn:>6,}: {self.resident_bytes / 1e6:8.1f} MB, {held}"


def grown(samples: Sequence[Sample], bytes_a_turn: float) -> list[str]:
    """Return what grew after the first tenth of the turns, in words."""
    settled = [s for s in samples if s.turn >= samples[-1].turn / 10]
    first, last = settled[0], settled[-1]
    found = []
    taken = (last.resident_bytes - first.resident_bytes) / max(1, last.turn - first.turn)
    if taken > bytes_a_turn:
        found.append(f"memory, by {taken:,.0f} bytes a turn (at most {bytes_a_turn:,.0f})")
    for what in ("threads", "files", "children"):
        if getattr(last, what) > max(getattr(s, what) for s in settled[: max(1, len(settled) // 2)]):
            found.append(f"{what}, from {getattr(first, what)} to {getattr(last, what)}")
    return found


async def window(turns: int, every: int, say: Callable[[str], None]) -> list[str]:
    """Chat in the window; return what grew in its process or in the fake engine's."""
    from app.interface_bench import _until, _window
    from app.viewmodels.reply import ChatState

    own: list[Sample] = []
    engine: list[Sample] = []
    async with _window() as program:
        session, shown = program.models.session, program.window
        (engine_pid,) = _children_of(os.getpid())

        async def idle() -> None:
            await _until(lambda: session.state is ChatState.IDLE, poll_s=0.002)

        opened: list[int] = []
        for turn in range(1, turns + 1):
            if turn % 7 == 0 and len(opened) > 1:
                session.open(opened[turn // 7 % len(opened)])
            if len(session.messages) >= MESSAGES_OF_A_CHAT:
                opened = [i for i in opened if session.conversation is None or i != session.conversation.id]
                session.new_chat()
            elif turn % 11 == 0 and len(opened) < CHATS:
                session.new_chat()
            if turn % 13 == 0:
                mode = CacheMode.FP16 if session.options.cache_mode is CacheMode.INT4 else CacheMode.INT4
                session.set_options(replace(session.options, cache_mode=mode))
            if turn % 5 == 0 and session.last_user_message is not None:
                session.edit(session.last_user_message.id, f"Edited in turn {turn}. [tokens 8]")
            elif turn % 9 == 0 and session.last_user_message is not None:
                session.regenerate()
            elif turn % 17 == 0:
                session.send(f"Turn {turn}, to be stopped. [tokens 500] [token-ms 1]")
                await asyncio.sleep(0.02)
                session.stop()
            else:
                extras = " [think 6]" * (turn % 4 == 0) + " [markdown]" * (turn % 6 == 0)
                session.send(f"Turn {turn}. [tokens 24]{extras}")
            await idle()
            if session.conversation is not None and session.conversation.id not in opened:
                opened.append(session.conversation.id)
            if turn % 100 == 0:
                shown.actions_.stats.trigger()
                await asyncio.sleep(0.01)
                for other in _other_windows(shown):
                    other.close()
            if turn % every == 0 or turn == turns:
                await asyncio.sleep(0.05)
                gc.collect()
                own.append(Sample.of(turn, os.getpid()))
                engine.append(Sample.of(turn, engine_pid))
                say(f"window, {own[-1]}; fake engine, {engine[-1].resident_bytes / 1e6:.1f} MB")
        assert _children_of(os.getpid()) == [engine_pid], "the engine was started anew on the way"
    return [f"window: {what}" for what in grown(own, WINDOW_BYTES_A_TURN)] + [
        f"fake engine: {what}" for what in grown(engine, WINDOW_BYTES_A_TURN)
    ]


def engine(turns: int, every: int, say: Callable[[str], None]) -> list[str]:
    """Chat with the real engine's process; return what grew in it."""
    samples: list[Sample] = []
    chats: list[list[Message]] = [[] for _ in range(CHATS)]
    options = ChatOptions(sampling=Sampling(temperature=0.8, max_tokens=16))
    with EngineChild(engine_command("child")) as child:
        assert isinstance(child.event(), Ready)
        child.ask(Load("load", str(starter_model_path())), timeout_s=600.0)
        for turn in range(1, turns + 1):
            number = turn % CHATS
            chat = chats[number]
            if len(chat) >= MESSAGES_OF_A_CHAT:
                chat.clear()
            chat.append(Message(Role.USER, f"Tell me of the sea once more, {turn}."))
            mode = CacheMode.FP16 if turn // CHATS % 3 == 2 else CacheMode.INT4
            asked = Generate(f"g{turn}", f"chat {number}", tuple(chat), replace(options, cache_mode=mode), True)
            last = child.ask(asked, timeout_s=600.0)[-1]
            assert isinstance(last, Finished), last
            chat.append(Message(Role.ASSISTANT, last.text))
            if turn % every == 0 or turn == turns:
                samples.append(Sample.of(turn, child.process.pid))
                say(f"engine, {samples[-1]}")
        assert child.quit() == 0
    return [f"engine: {what}" for what in grown(samples, ENGINE_BYTES_A_TURN)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both parts; return 1 where something grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--window-turns", type=int, default=5000)
    parser.add_argument("--engine-turns", type=int, default=300)
    asked = parser.parse_args(arguments)
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    found: list[str] = []
    began_s = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began_s:7.0f} s  {line}", flush=True)

    if asked.window_turns:
        from PySide6.QtWidgets import QApplication
        from qasync import QEventLoop

        application = QApplication(sys.argv[:1])
        application.setQuitOnLastWindowClosed(False)
        with QEventLoop(application) as loop:
            found += loop.run_until_complete(window(asked.window_turns, max(1, asked.window_turns // 20), say))
    if asked.engine_turns:
        with tempfile.TemporaryDirectory() as home:
            os.environ["NIBBLE_HOME"] = home
            found += engine(asked.engine_turns, max(1, asked.engine_turns // 20), say)
    print("\n".join(f"GREW: {what}" for what in found) or "Nothing grew.")
    return 1 if found else 0


def _children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _other_windows(shown: object) -> list[object]:
    from PySide6.QtWidgets import QApplication

    return [w for w in QApplication.topLevelWidgets() if w is not shown and w.isVisible()]


if __name__ == "__main__":
    sys.exit(main())
