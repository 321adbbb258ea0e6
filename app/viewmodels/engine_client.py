"""The engine's process, as the window sees it: requests go in, events come out, and its death has a reason."""

import itertools
import logging
from collections.abc import Sequence

from PySide6.QtCore import QObject, QTimer, Signal

from app.chat.figures import MachineFacts
from app.chat.lines import ProtocolError
from app.engine.protocol import (
    PROTOCOL_VERSION,
    Cancel,
    Event,
    Failed,
    Forget,
    KeepCaches,
    Loading,
    Measuring,
    Prefill,
    Progress,
    Quit,
    Ready,
    Request,
    SetBudget,
    Token,
    decode_event,
    encode,
)
from app.viewmodels.child_process import QUIT_GRACE_S, TERMINATE_GRACE_S, ChildProcess

_log = logging.getLogger(__name__)

SILENCE_S = 30.0
"""An engine that owes an answer and says nothing for so long may hang, or be at something large: a person decides."""


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
    silence_changed = Signal(bool)
    """The process owes an answer and has said nothing for long, or was heard again, or is gone."""

    def __init__(
        self,
        command: Sequence[str],
        parent: QObject | None = None,
        *,
        silence_s: float = SILENCE_S,
        quit_grace_s: float = QUIT_GRACE_S,
        terminate_grace_s: float = TERMINATE_GRACE_S,
    ) -> None:
        super().__init__(parent)
        self._command = command
        self._quit_grace_s = quit_grace_s
        self._terminate_grace_s = terminate_grace_s
        self._child: ChildProcess | None = None
        self._machine: MachineFacts | None = None
        self._is_ready = False
        self._restarting = False
        self._closing = False
        self._numbers = itertools.count(1)
        self._owed: set[str] = set()
        self._is_silent = False
        self._silence = QTimer(self, interval=round(silence_s * 1000), singleShot=True)
        self._silence.timeout.connect(lambda: self._set_silent(True))

    @property
    def is_running(self) -> bool:
        """Whether a process exists, ready or not."""
        return self._child is not None

    @property
    def is_silent(self) -> bool:
        """Whether the process owes an answer and has said nothing for long."""
        return self._is_silent

    @property
    def machine(self) -> MachineFacts | None:
        """What the process last started runs on; None until the first Ready."""
        return self._machine

    @property
    def stderr_tail(self) -> str:
        """The last lines of the running process's stderr."""
        return "" if self._child is None else self._child.stderr_tail

    def new_request_id(self) -> str:
        """Return an id that no other request of this client has."""
        return f"r{next(self._numbers)}"

    def start(self) -> None:
        """Start the process; does nothing while one runs or once `shutdown` was called."""
        if self._child is not None or self._closing:
            return
        self._is_ready = False
        self._child = ChildProcess(
            self._command,
            "The engine",
            self,
            quit_grace_s=self._quit_grace_s,
            terminate_grace_s=self._terminate_grace_s,
        )
        self._child.line_received.connect(self._take)
        self._child.ended.connect(self._finish)
        self._child.start()

    def restart(self) -> None:
        """Start a new process, ending the one that runs."""
        if self._child is None:
            self.start()
        else:
            self._restarting = True
            self._child.kill("The engine is started again.")

    def end(self, reason: str) -> None:
        """Kill the process that runs, for a reason that `died` then tells."""
        self._give_up(reason)

    def send(self, request: Request) -> None:
        """Write one request to the process."""
        is_sent = self._child is not None and self._child.write(encode(request))
        if isinstance(request, Cancel | Forget | KeepCaches | SetBudget | Quit):
            return
        if is_sent:
            self._owed.add(request.request_id)
            self._silence.start()
        else:
            failed = Failed(request.request_id, "The engine is not running.", "Restart it, then try again.")
            QTimer.singleShot(0, self, lambda: self.event_received.emit(failed))

    async def shutdown(self) -> None:
        """End the process for good: ask, then SIGTERM, then SIGKILL. Returns once it is gone."""
        self._closing = True
        if (child := self._child) is not None:
            self.send(Quit())
            child.stop()
            await child.gone()

    def _take(self, line: str) -> None:
        try:
            event = decode_event(line)
        except ProtocolError as error:
            self._give_up(f"The engine said something Nibble cannot read: {error}.")
            return
        self._note_heard(event)
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

    def _note_heard(self, event: Event) -> None:
        if not isinstance(event, Ready | Loading | Measuring | Prefill | Progress | Token):
            self._owed.discard(event.request_id)
        self._set_silent(False)
        if self._owed:
            self._silence.start()
        else:
            self._silence.stop()

    def _set_silent(self, is_silent: bool) -> None:
        if is_silent != self._is_silent:
            self._is_silent = is_silent
            self.silence_changed.emit(is_silent)

    def _pass_on(self, event: Event) -> None:
        if not self._closing:
            self.event_received.emit(event)

    def _give_up(self, fault: str) -> None:
        if self._child is not None:
            self._child.kill(fault)

    def _finish(self, _code: int, reason: str) -> None:
        tail = self.stderr_tail
        self._child = None
        self._owed.clear()
        self._silence.stop()
        self._set_silent(False)
        if self._closing:
            return
        restarting, self._restarting = self._restarting, False
        if restarting:
            self.start()
        else:
            _log.error("%s Its last words:\n%s", reason, tail or "(none)")
            self.died.emit(reason, tail)
