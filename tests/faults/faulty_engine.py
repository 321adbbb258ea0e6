"""The fake engine with one fault: `python -m tests.faults.faulty_engine STAGE FAULT MARKER`.

The fault happens once, at STAGE: MARKER is a file that is made just before, and where it exists the engine is healthy,
so that the one started after it can be used. STAGE is `start`, `load`, `prefill`, `decode` (the fourth token), `idle`
(after a reply) or `shutdown`; FAULTS says what can happen.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NoReturn

from app.children import claimed_stdout
from app.engine.fake_engine import FakeEngine
from app.engine.process import EngineServer
from app.engine.protocol import Event, Finished, Loading, Prefill, Ready, Token

FAULTY_TOKEN = 4
ROOM_BYTES = 64 * 1024**2
ENDLESS_BYTES = 40 * 1024**2
"""More than the window waits for the end of a line: child_process.MOST_LINE_BYTES, which would bring Qt in here."""


def _kill(number: signal.Signals) -> Callable[[BinaryIO], None]:
    return lambda _: os.kill(os.getpid(), number)


def _hang(_: BinaryIO | None = None) -> NoReturn:
    while True:
        time.sleep(60)


def _write(data: bytes, then: Callable[[], object] = lambda: None) -> Callable[[BinaryIO], None]:
    def fault(stdout: BinaryIO) -> None:
        stdout.write(data)
        stdout.flush()
        then()

    return fault


def _exhaust_memory(_: BinaryIO) -> None:
    """Allow the process little more than it has, and take all of it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc").exists() else 0
    limit = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    held = []
    try:
        while True:
            held.append(bytearray(1024**2))
    finally:
        held.clear()


HALF = b'{"event": "token", "request_'
FAULTS: dict[str, Callable[[BinaryIO], None]] = {
    "killed": _kill(signal.SIGKILL),
    "segmentation_fault": _kill(signal.SIGSEGV),
    "out_of_memory": _exhaust_memory,
    "exit_0": lambda _: os._exit(0),
    "exit_3": lambda _: os._exit(3),
    "hang": _hang,
    "garbage": _write(b"Loading weights: 100%\n"),
    "no_utf8": _write(b"\x00\xff\xfe" * 100 + b"\n"),
    "half_line_then_exit": _write(HALF, lambda: os._exit(3)),
    "half_line_then_hang": _write(HALF, _hang),
    "endless_line": _write(b"x" * (ENDLESS_BYTES), _hang),
}


class FaultyEngine(FakeEngine):
    """Calls `at_close` before it closes."""

    at_close: Callable[[], None]

    def close(self) -> None:
        self.at_close()
        super().close()


class FaultyServer(EngineServer):
    """Lets the fault happen where an event of its stage would be sent."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO, stage: str, fault: str, marker: Path) -> None:
        super().__init__(stdin, stdout)
        self._out = stdout
        self._stage = stage
        self._fault = fault
        self._marker = marker
        self._tokens = 0

    def engine(self) -> FakeEngine:
        engine = FaultyEngine()
        engine.at_close = lambda: self._reach("shutdown")
        return engine

    def _emit(self, event: Event) -> None:
        match event:
            case Ready():
                self._reach("start")
            case Loading():
                self._reach("load")
            case Prefill():
                self._reach("prefill")
            case Token():
                self._tokens += 1
                if self._tokens == FAULTY_TOKEN:
                    self._reach("decode")
        super()._emit(event)
        if isinstance(event, Finished):
            self._reach("idle")

    def _reach(self, stage: str) -> None:
        if stage == self._stage and not self._marker.exists():
            self._marker.touch()
            FAULTS[self._fault](self._out)


def main(stage: str, fault: str, marker: str) -> int:
    """Be an engine process; return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with claimed_stdout() as stdout, open(os.dup(0), "rb") as stdin:  # noqa: PTH123
        server = FaultyServer(stdin, stdout, stage, fault, Path(marker))
        return server.run(server.engine)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
