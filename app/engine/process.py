"""The engine's process: requests come in on stdin, events go out on stdout, and nothing else does.

Every engine call happens on the main thread, one at a time and in order, since MLX's streams belong to one thread. A
second thread only reads lines: it puts requests into a queue and marks the ones to be cancelled, so that Cancel, Quit
and the end of stdin are heard in the middle of a reply.
"""

import faulthandler
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from app.awake import stay_awake
from app.children import claimed_stdout
from app.engine.budget import OverBudgetError
from app.engine.command import EngineKind
from app.engine.protocol import (
    PROTOCOL_VERSION,
    Cancel,
    CountTokens,
    Engine,
    Estimate,
    Event,
    Failed,
    Forget,
    Generate,
    KeepCaches,
    Load,
    Measure,
    Quit,
    Ready,
    SetBudget,
    decode_request,
    encode,
)
from app.errors import NibbleError, OverridableError
from app.log import start_logging
from app.paths import default_paths

PAUSE_S = 2.0
"""How long nothing has been asked for when the engine turns to what can wait."""
ORPHAN_GRACE_S = 10.0
"""An engine whose window is gone has so long to end by itself: what hangs in native code hears nothing."""


def serve(kind: EngineKind) -> int:
    """Be an engine process until Quit, the end of stdin or SIGTERM; return its exit code.

    SIGINT is ignored: a terminal sends Ctrl-C to the whole process group, and it is the window that answers it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A stream of its own, never closed: the reading thread may be inside it, holding its lock, as the process ends.
    stdin = os.fdopen(os.dup(0), "rb")
    with claimed_stdout() as stdout:
        server = EngineServer(stdin, stdout, orphan_grace_s=ORPHAN_GRACE_S)
        signal.signal(signal.SIGTERM, lambda *_: server.quit())
        return server.run(_factory(kind))


def _factory(kind: EngineKind) -> Callable[[], Engine]:
    if kind == "fake":
        from app.engine.fake_engine import FakeEngine

        return FakeEngine
    from app.engine.mlx_engine import MlxEngine

    paths = default_paths()
    start_logging(paths, "engine")
    stay_awake("Nibble reads and writes")
    return lambda: MlxEngine(paths.calibrations)


@dataclass(slots=True)
class _Job:
    """A request that is answered, waiting or running."""

    request: Load | Estimate | Generate | Measure | CountTokens
    cancelled: bool = False


_Item = _Job | Forget | KeepCaches | SetBudget | Failed | Quit


class EngineServer:
    """Reads requests from `stdin`, lets an engine answer them, writes its events to `stdout`.

    Where `orphan_grace_s` is given, the whole process ends, whatever it is at, that long after the end of `stdin`.
    """

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO, *, orphan_grace_s: float | None = None) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._jobs: dict[str, _Job] = {}
        self._quitting = False
        self._orphan_grace_s = orphan_grace_s

    def quit(self) -> None:
        """Cancel what runs, drop what waits, let `run` return. May be called on any thread and in a signal handler."""
        self._quitting = True
        self._queue.put(Quit())

    def run(self, engine_factory: Callable[[], Engine]) -> int:
        """Answer requests until told to quit; return the exit code."""
        engine = engine_factory()
        try:
            self._emit(Ready(PROTOCOL_VERSION, engine.machine()))
            threading.Thread(target=self._read, name="engine-stdin", daemon=True).start()
            while (item := self._next(engine)) and not self._quitting:
                self._answer(engine, item)
            self._forget_what_waits(engine, item)
        finally:
            engine.close()
        return 0

    # The main thread

    def _next(self, engine: Engine) -> _Item:
        """Wait for what is next; in a pause, let the engine do what can wait."""
        try:
            return self._queue.get(timeout=PAUSE_S)
        except queue.Empty:
            self._guard("", lambda: engine.rest(lambda: not self._queue.empty()))
            return self._queue.get()

    def _forget_what_waits(self, engine: Engine, item: _Item) -> None:
        """Forget the conversations that were deleted last, for which the engine must know where they are on disk."""
        while not isinstance(item, Quit):
            if isinstance(item, Forget | KeepCaches):
                self._answer(engine, item)
            item = self._queue.get()

    def _answer(self, engine: Engine, item: _Item) -> None:
        match item:
            case _Job(request=Load() as load):
                self._guard(load.request_id, lambda: engine.load(load, self._emit, self._is_cancelled(item)))
            case _Job(request=Estimate() as estimate):
                self._guard(estimate.request_id, lambda: engine.estimate(estimate, self._emit))
            case _Job(request=Generate() as generate):
                self._guard(
                    generate.request_id, lambda: engine.generate(generate, self._emit, self._is_cancelled(item))
                )
            case _Job(request=Measure() as measure):
                self._guard(measure.request_id, lambda: engine.measure(measure, self._emit, self._is_cancelled(item)))
            case _Job(request=CountTokens() as count):
                self._guard(count.request_id, lambda: engine.count_tokens(count, self._emit))
            case Forget(chat_id):
                self._guard("", lambda: engine.forget(chat_id))
            case KeepCaches():
                self._guard("", lambda: engine.keep_caches(item))
            case SetBudget(budget_bytes):
                self._guard("", lambda: engine.set_budget(budget_bytes))
            case Failed():
                self._emit(item)
            case Quit():
                pass

    def _guard(self, request_id: str, call: Callable[[], None]) -> None:
        """Run one engine call; whatever it raises becomes Failed, and the process lives on."""
        try:
            call()
        except NibbleError as error:
            can_override = isinstance(error, OverridableError)
            shortage = error.shortage if isinstance(error, OverBudgetError) else None
            self._emit(Failed(request_id, error.message, error.hint, can_override=can_override, shortage=shortage))
        except MemoryError:
            hint = "Close other programs, shorten the chat, or open a smaller model, then try again."
            self._emit(Failed(request_id, "The engine ran out of memory.", hint, traceback.format_exc()))
        except Exception as error:
            self._emit(
                Failed(
                    request_id,
                    f"The engine met an error it did not expect: {type(error).__name__}: {error}",
                    "This is a defect in Nibble. Try again; if it comes back, report it with the details.",
                    traceback.format_exc(),
                )
            )
        finally:
            self._jobs.pop(request_id, None)

    def _is_cancelled(self, job: _Job) -> Callable[[], bool]:
        return lambda: job.cancelled or self._quitting

    def _emit(self, event: Event) -> None:
        line = encode(event).encode() + b"\n"
        try:
            self._stdout.write(line)
            self._stdout.flush()
        except BrokenPipeError:
            self.quit()

    # The reading thread

    def _read(self) -> None:
        try:
            for line in self._stdin:
                self._take(line)
                if self._quitting:
                    return
        finally:
            self.quit()
            if self._orphan_grace_s is not None:
                faulthandler.dump_traceback_later(self._orphan_grace_s, exit=True, file=2)

    def _take(self, line: bytes) -> None:
        try:
            request = decode_request(line.decode())
        except ValueError as error:
            message = f"The engine was sent a line that it cannot read: {error}"
            hint = "This is a defect in Nibble, or the window and the engine are of different versions."
            self._queue.put(Failed("", message, hint))
            return
        match request:
            case Load() | Estimate() | Generate() | Measure() | CountTokens():
                job = self._jobs[request.request_id] = _Job(request)
                self._queue.put(job)
            case Cancel(request_id):
                if named := self._jobs.get(request_id):
                    named.cancelled = True
            case Forget() | KeepCaches() | SetBudget():
                self._queue.put(request)
            case Quit():
                self.quit()
