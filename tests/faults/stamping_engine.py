"""The fake engine, which also notes in a file when it said what: `python -m tests.faults.stamping_engine FILE`.

A line of the file is the moment (`time.monotonic()`, one clock for all processes of a machine) just before a token was
written to the pipe, and the token as a JSON string. The first line is the engine's process id.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, BinaryIO

from app.children import claimed_stdout
from app.engine.fake_engine import FakeEngine
from app.engine.process import EngineServer
from app.engine.protocol import Event, Token


class StampingServer(EngineServer):
    """Notes every token before it is sent."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO, stamps: IO[str]) -> None:
        super().__init__(stdin, stdout)
        self._stamps = stamps

    def _emit(self, event: Event) -> None:
        if isinstance(event, Token):
            self._stamps.write(f"{time.monotonic():.6f} {json.dumps(event.text)}\n")
            self._stamps.flush()
        super()._emit(event)


def main(path: Path) -> int:
    """Be an engine process that writes its stamps to `path`; return its exit code."""
    with path.open("w", encoding="utf-8") as stamps, claimed_stdout() as stdout, open(os.dup(0), "rb") as stdin:  # noqa: PTH123
        stamps.write(f"{os.getpid()}\n")
        return StampingServer(stdin, stdout, stamps).run(FakeEngine)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
