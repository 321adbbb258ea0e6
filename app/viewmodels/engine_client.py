"""The engine's process, as the window sees it: requests go in, events come out, and its death has a reason."""

import asyncio
import itertools
import logging
from collections.abc import Sequence

from PySide6.QtCore import QObject, QProcess, QTimer, Signal

from app.chat.figures import MachineFacts
from app.engine.protocol import (
    PROTOCOL_VERSION,
    Cancel,
    Event,
    Failed,
    Forget,
    KeepCaches,
    ProtocolError,
    Quit,
    Ready,
    Request,
    decode_event,
    encode,
)

_log = logging.getLogger(__name__)

STDERR_LINES = 40
STDERR_CHARACTERS = 20_000
"""How much of the child's stderr is kept for the error dialog."""
QUIT_GRACE_S = 3.0
TERMINATE_GRACE_S = 2.0
_SIGNALS = {4: "illegal instruction", 6: "aborted", 9: "killed, often for want of memory", 11: "segmentation fault"}


class EngineClient(QObject):
    """Owns the engine's child process.

    Every request that has an answer gets one: with no process running, `send` answers Failed by itself. What was under
    way when the process died is answered by `died` alone.
    """

    started_up = Signal(object)
    """MachineFacts, once a process has said Ready."""
    event_received = Signal(object)
    """Every Event after Ready."""
    died = Signal(str, str)
    """Why the process ended unasked, and the last lines of its stderr."""

    def __init__(
        self,
        command: Sequence[str],
        parent: QObject | None = None,
        *,
        quit_grace_s: float = QUIT_GRACE_S,
        terminate_grace_s: float = TERMINATE_GRACE_S,
    ) -> None:
        super().__init__(parent)
        self._program, *self._arguments = command
        self._quit_grace_s = quit_grace_s
        self._terminate_grace_s = terminate_grace_s
        self._process: QProcess | None = None
        self._machine: MachineFacts | None = None
        self._stderr = ""
        self._fault = ""
        self._is_ready = False
        self._restarting = False
        self._closing = False
        self._ended: asyncio.Future[None] | None = None
        self._numbers = itertools.count(1)

    @property
    def is_running(self) -> bool:
        """Whether a process exists, ready or not."""
        return self._process is not None

    @property
    def machine(self) -> MachineFacts | None:
        """What the process last started runs on; None until the first Ready."""
        return self._machine

    @property
    def stderr_tail(self) -> str:
        """The last lines of the process's stderr."""
        return self._stderr.rstrip()

    def new_request_id(self) -> str:
        """Return an id that no other request of this client has."""
        return f"r{next(self._numbers)}"

    def start(self) -> None:
        """Start the process; does nothing while one runs or once `shutdown` was called."""
        if self._process is not None or self._closing:
            return
        self._fault = ""
        self._stderr = ""
        self._is_ready = False
        process = QProcess(self)
        process.readyReadStandardOutput.connect(self._read_events)
        process.readyReadStandardError.connect(self._read_stderr)
        process.errorOccurred.connect(self._note_error)
        process.finished.connect(self._finish)
        self._process = process
        process.start(self._program, self._arguments)

    def restart(self) -> None:
        """Start a new process, ending the one that runs."""
        if self._process is None:
            self.start()
        else:
            self._restarting = True
            self._process.kill()

    def send(self, request: Request) -> None:
        """Write one request to the process."""
        if self._process is not None and not self._fault:
            self._process.write(encode(request).encode() + b"\n")
        elif not isinstance(request, Cancel | Forget | KeepCaches | Quit):
            failed = Failed(request.request_id, "The engine is not running.", "Restart it, then try again.")
            QTimer.singleShot(0, self, lambda: self.event_received.emit(failed))

    async def shutdown(self) -> None:
        """End the process for good: ask, then SIGTERM, then SIGKILL. Returns once it is gone."""
        self._closing = True
        process = self._process
        if process is None:
            return
        self.send(Quit())
        process.closeWriteChannel()
        if await self._ends_within(self._quit_grace_s):
            return
        process.terminate()
        if await self._ends_within(self._terminate_grace_s):
            return
        process.kill()
        await self._ends_within(None)

    async def _ends_within(self, timeout_s: float | None) -> bool:
        if self._process is None:
            return True
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait([self._ended], timeout=timeout_s)
        return bool(done)

    def _read_events(self) -> None:
        process = self._process
        while process is not None and process is self._process and not self._fault and process.canReadLine():
            line = bytes(process.readLine().data()).decode(errors="replace").strip()
            if line:
                self._take(line)

    def _take(self, line: str) -> None:
        try:
            event = decode_event(line)
        except ProtocolError as error:
            self._give_up(f"The engine said something Nibble cannot read: {error}.")
            return
        if isinstance(event, Ready):
            self._greet(event)
        elif not self._is_ready:
            self._give_up("The engine spoke before it was ready.")
        else:
            self._pass_on(event)

    def _greet(self, ready: Ready) -> None:
        if ready.protocol_version != PROTOCOL_VERSION:
            theirs, ours = ready.protocol_version, PROTOCOL_VERSION
            self._give_up(f"The engine speaks version {theirs} of the protocol, this window version {ours}.")
            return
        self._is_ready = True
        self._machine = ready.machine
        self.started_up.emit(ready.machine)

    def _pass_on(self, event: Event) -> None:
        if not self._closing:
            self.event_received.emit(event)

    def _read_stderr(self) -> None:
        if self._process is not None:
            written = bytes(self._process.readAllStandardError().data())
            lines = (self._stderr + written.decode(errors="replace")).splitlines(keepends=True)
            self._stderr = "".join(lines[-STDERR_LINES:])[-STDERR_CHARACTERS:]

    def _give_up(self, fault: str) -> None:
        self._fault = fault
        if self._process is not None:
            self._process.kill()

    def _note_error(self, error: QProcess.ProcessError) -> None:
        if error is QProcess.ProcessError.FailedToStart and self._process is not None:
            self._fault = f"The engine could not be started: {self._process.errorString()}."
            self._finish(-1, QProcess.ExitStatus.NormalExit)

    def _finish(self, code: int, status: QProcess.ExitStatus) -> None:
        process = self._process
        if process is None:
            return
        self._read_events()
        self._read_stderr()
        self._process = None
        process.deleteLater()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        if self._closing:
            return
        restarting, self._restarting = self._restarting, False
        if restarting:
            self.start()
        else:
            reason = self._fault or _reason(code, status)
            _log.error("%s Its last words:\n%s", reason, self.stderr_tail or "(none)")
            self.died.emit(reason, self.stderr_tail)


def _reason(code: int, status: QProcess.ExitStatus) -> str:
    if status is QProcess.ExitStatus.CrashExit:
        return f"The engine stopped: {_SIGNALS.get(code, f'signal {code}')}."
    return f"The engine stopped by itself (exit status {code})."
