"""An engine's process spoken to with plain blocking calls: for the self-test and the tests; the window has its own."""

import queue
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Self

from app.engine.protocol import (
    Counted,
    CountTokens,
    Estimate,
    Estimated,
    Event,
    Failed,
    Finished,
    Generate,
    Load,
    Loaded,
    Measure,
    Measured,
    Quit,
    Request,
    decode_event,
    encode,
)


class ChildError(RuntimeError):
    """The engine's process did not do what was awaited; the message says what, and ends in its last stderr lines."""


class EngineChild:
    """Starts an engine's process, and ends it when the `with` block is left."""

    def __init__(self, command: Sequence[str]) -> None:
        self.lines: list[str] = []
        """All that was received on stdout, without line feeds."""
        self._stderr: list[str] = []
        self._arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._stdin: IO[str] = self.process.stdin
        self._threads = [
            threading.Thread(target=self._read_stdout, args=(self.process.stdout,), name="child-stdout"),
            threading.Thread(target=self._read_stderr, args=(self.process.stderr,), name="child-stderr"),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()

    @property
    def stderr(self) -> str:
        """What the process has written to stderr so far."""
        return "".join(self._stderr)

    def send(self, request: Request) -> None:
        """Send one request."""
        self.send_line(encode(request))

    def send_line(self, line: str) -> None:
        """Send `line` as it is, valid or not. A process that is gone is found out by the next `event`."""
        with suppress(BrokenPipeError):
            self._stdin.write(line + "\n")
            self._stdin.flush()

    def close_stdin(self) -> None:
        """End the process's stdin."""
        with suppress(BrokenPipeError):
            self._stdin.close()

    def event(self, timeout_s: float = 60.0) -> Event:
        """Return the next event. Raises ChildError when none comes, ProtocolError when the line is none."""
        try:
            line = self._arrived.get(timeout=timeout_s)
        except queue.Empty:
            raise self._error(f"said nothing for {timeout_s:g} s") from None
        if line is None:
            self._arrived.put(None)
            raise self._error(f"ended with code {self.wait()}")
        return decode_event(line)

    def answer(self, request_id: str, timeout_s: float = 60.0) -> list[Event]:
        """Return the events of a request up to its last one; those of others in between are dropped."""
        events: list[Event] = []
        while not (events and isinstance(events[-1], Loaded | Estimated | Finished | Measured | Counted | Failed)):
            event = self.event(timeout_s)
            if getattr(event, "request_id", None) == request_id:
                events.append(event)
        return events

    def ask(self, request: Load | Estimate | Generate | Measure | CountTokens, timeout_s: float = 60.0) -> list[Event]:
        """Send a request and return its answer."""
        self.send(request)
        return self.answer(request.request_id, timeout_s)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Wait for the process to end; return its exit code. Raises ChildError when it goes on for `timeout_s`."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise self._error(f"did not end within {timeout_s:g} s") from None
        for thread in self._threads:
            thread.join()
        self.close_stdin()
        return code

    def quit(self, timeout_s: float = 20.0) -> int:
        """Ask the process to end and return its exit code."""
        self.send(Quit())
        return self.wait(timeout_s)

    def _error(self, what: str) -> ChildError:
        tail = "".join(self._stderr[-10:]).strip()
        return ChildError(f"the engine's process {what}" + (f"; its last words:\n{tail}" if tail else ""))

    def _read_stdout(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))
                self._arrived.put(self.lines[-1])
        self._arrived.put(None)

    def _read_stderr(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._stderr.append(line)
