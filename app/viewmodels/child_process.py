"""A child of the window, as Qt runs it: lines go in and out, it is ended in order, and its death has a reason."""

import asyncio
import signal
from collections.abc import Sequence

from PySide6.QtCore import QObject, QProcess, QTimer, Signal

STDERR_LINES = 40
STDERR_CHARACTERS = 20_000
"""How much of the child's stderr is kept for the error dialog."""
READ_INTERVAL_MS = 40
"""Lines that come sooner after others are read together: to wake up for every token costs more than to read it."""
MOST_LINE_BYTES = 32 * 1024**2
"""No line is so long: that of a reply of 128k tokens takes some 2 MB."""
QUIT_GRACE_S = 3.0
TERMINATE_GRACE_S = 2.0
_SIGNALS: dict[int, str] = {
    signal.SIGILL: "illegal instruction",
    signal.SIGTRAP: "trap",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGKILL: "killed, often for want of memory",
    signal.SIGSEGV: "segmentation fault",
}


class ChildProcess(QObject):
    """One run of one child; made for it, and of no use after it."""

    line_received = Signal(str)
    """A line of its stdout that is not empty."""
    ended = Signal(int, str)
    """Its exit code, and in a sentence why it ended; the sentence begins with `name`. Emitted once, last."""

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        parent: QObject | None = None,
        *,
        quit_grace_s: float = QUIT_GRACE_S,
        terminate_grace_s: float = TERMINATE_GRACE_S,
    ) -> None:
        super().__init__(parent)
        self._program, *self._arguments = command
        self._name = name
        self._quit_grace_s = quit_grace_s
        self._terminate_grace_s = terminate_grace_s
        self._stderr = ""
        self._fault = ""
        self._is_over = False
        self._over: asyncio.Future[None] | None = None
        self._process = QProcess(self)
        self._terminating, self._killing = QTimer(self, singleShot=True), QTimer(self, singleShot=True)
        self._terminating.timeout.connect(self._process.terminate)
        self._killing.timeout.connect(self._process.kill)
        self._read_timer = QTimer(self, interval=READ_INTERVAL_MS, singleShot=True)
        self._read_timer.timeout.connect(self._read_lines)
        self._process.readyReadStandardOutput.connect(self._read_soon)
        self._process.readyReadStandardError.connect(self._read_stderr)
        self._process.errorOccurred.connect(self._note_error)
        self._process.finished.connect(self._finish)

    @property
    def stderr_tail(self) -> str:
        """The last lines of its stderr."""
        return self._stderr.rstrip()

    def start(self) -> None:
        """Start it. That it cannot be started is told by `ended`."""
        self._process.start(self._program, self._arguments)

    def write(self, line: str) -> bool:
        """Write a line to its stdin; return False where it was killed and hears nothing."""
        if self._is_over or self._fault:
            return False
        return self._process.write(line.encode() + b"\n") >= 0

    def kill(self, fault: str) -> None:
        """Kill it because of `fault`, which becomes the reason; nothing more of what it said is passed on."""
        self._fault = fault
        self._process.kill()

    def stop(self) -> None:
        """End it: the end of its stdin, then SIGTERM, then SIGKILL; `ended` tells when it is gone."""
        if self._is_over:
            return
        self._process.closeWriteChannel()
        self._terminating.start(round(1000 * self._quit_grace_s))
        self._killing.start(round(1000 * (self._quit_grace_s + self._terminate_grace_s)))

    async def gone(self) -> None:
        """Return once it is gone."""
        if not self._is_over:
            if self._over is None:
                self._over = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._over])

    def _read_soon(self) -> None:
        if not self._read_timer.isActive():
            self._read_lines()

    def _read_lines(self) -> None:
        if not self._is_over and self._process.canReadLine():
            self._read_timer.start()
        while not self._is_over and not self._fault and self._process.canReadLine():
            line = bytes(self._process.readLine().data()).decode(errors="replace").strip()
            if line:
                self.line_received.emit(line)
        if not self._is_over and not self._fault and self._process.bytesAvailable() > MOST_LINE_BYTES:
            self.kill(f"{self._name} said something Nibble cannot read: a line that does not end.")

    def _read_stderr(self) -> None:
        written = bytes(self._process.readAllStandardError().data())
        lines = (self._stderr + written.decode(errors="replace")).splitlines(keepends=True)
        self._stderr = "".join(lines[-STDERR_LINES:])[-STDERR_CHARACTERS:]

    def _note_error(self, error: QProcess.ProcessError) -> None:
        if error is QProcess.ProcessError.FailedToStart:
            self._fault = f"{self._name} could not be started: {self._process.errorString()}."
            self._finish(-1, QProcess.ExitStatus.NormalExit)

    def _finish(self, code: int, status: QProcess.ExitStatus) -> None:
        if self._is_over:
            return
        self._read_lines()
        self._read_stderr()
        self._is_over = True
        self._read_timer.stop()
        self._terminating.stop()
        self._killing.stop()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        self.deleteLater()
        self.ended.emit(code, self._fault or self._reason(code, status))

    def _reason(self, code: int, status: QProcess.ExitStatus) -> str:
        if status is QProcess.ExitStatus.CrashExit:
            return f"{self._name} stopped: {_SIGNALS.get(code, f'signal {code}')}."
        return f"{self._name} stopped by itself (exit status {code})."
