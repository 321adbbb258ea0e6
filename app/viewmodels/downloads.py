"""Downloads of models: one at a time in its own process, the others wait; each can be paused, resumed, cancelled."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from app.catalogue.completeness import is_complete
from app.catalogue.download_protocol import (
    Checking,
    Failed,
    FailureKind,
    Fetch,
    Finished,
    Planned,
    Progress,
    Waiting,
    decode_event,
    encode,
)
from app.catalogue.download_records import DownloadRecords
from app.catalogue.hub_cache import CachedRepository
from app.catalogue.plan import is_repository
from app.chat.lines import ProtocolError
from app.viewmodels.child_process import QUIT_GRACE_S, ChildProcess
from app.viewmodels.hub_token import HubToken

_log = logging.getLogger(__name__)


class DownloadStatus(Enum):
    """Where a model's download stands."""

    ABSENT = "absent"
    WAITING = "waiting"
    """For another download to end."""
    RUNNING = "running"
    PAUSED = "paused"
    """By the person, or by the end of the program."""
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class DownloadState:
    """What there is to say of a model's download."""

    status: DownloadStatus = DownloadStatus.ABSENT
    bytes_done: int = 0
    bytes_total: int | None = None
    bytes_per_s: float | None = None
    seconds_left: float | None = None
    error: str | None = None
    hint: str | None = None
    folder: Path | None = None
    note: str = ""
    """What a running download is at while no bytes come: "Checking: 40 %"."""

    @property
    def is_under_way(self) -> bool:
        """Whether it was begun and neither finished nor cancelled."""
        return self.status not in (DownloadStatus.ABSENT, DownloadStatus.DONE)


class _Run:
    """The download that runs now."""

    def __init__(self, repo: str) -> None:
        self.repo = repo
        self.child: ChildProcess | None = None
        self.outcome: Finished | Failed | None = None
        self.is_pausing = False
        self.is_cancelling = False

    @property
    def is_stopping(self) -> bool:
        return self.is_pausing or self.is_cancelling


class Downloads(QObject):
    """All downloads of this window. Repositories are named as on the hub: "mlx-community/Qwen3-0.6B-4bit"."""

    changed = Signal(str)
    """The state of a repository's download."""
    finished = Signal(str, object)
    """Repository, and the Path of the folder with the whole model."""
    token_wanted = Signal(str)
    """The hub refused a repository for want of a token that it accepts."""

    def __init__(
        self,
        command: Sequence[str],
        records: Path,
        token: HubToken,
        parent: QObject | None = None,
        *,
        quit_grace_s: float = QUIT_GRACE_S,
    ) -> None:
        super().__init__(parent)
        self._command = command
        self._records = DownloadRecords(records)
        self._token = token
        self._quit_grace_s = quit_grace_s
        self._states: dict[str, DownloadState] = {}
        self._revisions: dict[str, str] = {}
        self._queue: list[str] = []
        self._run: _Run | None = None
        self._closing = False

    def state(self, repo: str) -> DownloadState:
        """Return where a download stands; one that an earlier window left is PAUSED, a model in the cache DONE."""
        if repo not in self._states:
            self._states[repo] = self._found(repo)
        return self._states[repo]

    def under_way(self) -> tuple[str, ...]:
        """Return the repositories whose downloads were begun, also by earlier windows, and are not at their end."""
        known = {*self._states, *self._records.repositories()}
        return tuple(sorted(repo for repo in known if self.state(repo).is_under_way))

    def start(self, repo: str, revision: str | None = None) -> None:
        """Fetch a model, or go on with it; `revision` is a branch, tag or commit, by default that of the last time."""
        if self._closing or self.state(repo).status in (DownloadStatus.WAITING, DownloadStatus.RUNNING):
            return
        plan = self._records.load(repo) if revision is None and is_repository(repo) else None
        self._revisions[repo] = revision or (plan.revision if plan is not None else "main")
        self._queue.append(repo)
        self._set(repo, DownloadStatus.WAITING)
        self._start_next()

    def pause(self, repo: str) -> None:
        """Stop fetching and keep what came."""
        run = self._run
        if run is not None and run.repo == repo and not run.is_stopping:
            run.is_pausing = True
            self._stop(run, "Pausing")
        elif repo in self._queue:
            self._queue.remove(repo)
            self._set(repo, DownloadStatus.PAUSED)

    def cancel(self, repo: str) -> None:
        """Stop fetching and remove what came."""
        run = self._run
        if run is not None and run.repo == repo:
            run.is_cancelling = True
            self._stop(run, "Cancelling")
        elif self.state(repo).is_under_way:
            if repo in self._queue:
                self._queue.remove(repo)
            self._discard(repo)

    async def close(self) -> None:
        """End the download that runs, keeping what came; returns once its process is gone."""
        self._closing = True
        if self._run is not None and (child := self._run.child) is not None:
            child.stop()
            await child.gone()

    # The queue

    def _start_next(self) -> None:
        if self._run is not None or self._closing or not self._queue:
            return
        run = self._run = _Run(self._queue.pop(0))
        self._set(run.repo, DownloadStatus.RUNNING, note="Asking the hub")
        self._token.read(lambda token: self._launch(run, token))

    def _launch(self, run: _Run, token: str | None) -> None:
        if self._closing:
            return
        if run.is_stopping:
            self._settle(run, "")
            return
        child = run.child = ChildProcess(self._command, "The download", self, quit_grace_s=self._quit_grace_s)
        child.line_received.connect(lambda line: self._take(run, line))
        child.ended.connect(lambda _code, reason: self._settle(run, reason))
        child.start()
        child.write(encode(Fetch(run.repo, self._revisions[run.repo], token)))

    def _stop(self, run: _Run, note: str) -> None:
        self._set(run.repo, DownloadStatus.RUNNING, note=note)
        if run.child is not None:
            run.child.stop()

    def _settle(self, run: _Run, reason: str) -> None:
        """Draw the conclusion of a process that is gone."""
        self._run = None
        if self._closing:
            return
        repo, outcome = run.repo, run.outcome
        if isinstance(outcome, Finished):
            self._finish(repo, Path(outcome.folder))
        elif run.is_cancelling:
            self._discard(repo)
        elif isinstance(outcome, Failed):
            self._fail(repo, outcome)
        elif run.is_pausing:
            self._set(repo, DownloadStatus.PAUSED)
        else:
            tail = "" if run.child is None else run.child.stderr_tail
            _log.error("%s: %s Its last words:\n%s", repo, reason, tail or "(none)")
            self._fail(repo, Failed(FailureKind.DEFECT, reason, "Resume: what was fetched is kept."))
        self._start_next()

    # What the process says

    def _take(self, run: _Run, line: str) -> None:
        try:
            event = decode_event(line)
        except ProtocolError as error:
            if run.child is not None:
                run.child.kill(f"The download said something Nibble cannot read: {error}.")
            return
        running = DownloadStatus.RUNNING
        match event:
            case Finished() | Failed():
                run.outcome = event
            case _ if run.is_stopping:
                pass
            case Planned():
                self._set(run.repo, running, bytes_done=event.bytes_done, bytes_total=event.bytes_total)
            case Progress():
                self._set(
                    run.repo,
                    running,
                    bytes_done=event.bytes_done,
                    bytes_per_s=event.bytes_per_s,
                    seconds_left=event.seconds_left,
                )
            case Waiting():
                self._set(run.repo, running, note=f"{event.why}; trying again in {event.seconds:.0f} s")
            case Checking():
                self._set(run.repo, running, note=f"Checking: {event.bytes_done / max(1, event.bytes_total):.0%}")

    def _finish(self, repo: str, folder: Path) -> None:
        total = self.state(repo).bytes_total
        self._set(repo, DownloadStatus.DONE, bytes_done=total or 0, folder=folder)
        self.finished.emit(repo, folder)

    def _fail(self, repo: str, failed: Failed) -> None:
        _log.warning("%s: %s", repo, failed.message)
        if failed.detail:
            _log.error("%s: %s", repo, failed.detail)
        self._set(repo, DownloadStatus.FAILED, error=failed.message, hint=failed.hint)
        if failed.kind is FailureKind.TOKEN_WANTED:
            self.token_wanted.emit(repo)

    def _discard(self, repo: str) -> None:
        try:
            if (plan := self._records.load(repo)) is not None:
                CachedRepository(repo).discard(plan.files)
                self._records.remove(repo)
        except OSError as error:
            message = f"What was fetched of {repo} could not be removed: {error.strerror or error}."
            self._set(repo, DownloadStatus.FAILED, error=message, hint="Check that you may write there.")
            return
        self._states[repo] = self._found(repo)
        self.changed.emit(repo)

    def _set(self, repo: str, status: DownloadStatus, **values: object) -> None:
        """Change a state; of the old one only the bytes stay, unless they are given."""
        old = self.state(repo)
        fresh = DownloadState(status, old.bytes_done, old.bytes_total)
        self._states[repo] = replace(fresh, **values)  # type: ignore[arg-type]  # fields of DownloadState, by name
        self.changed.emit(repo)

    def _found(self, repo: str) -> DownloadState:
        """Return what the disk says of a download."""
        if not is_repository(repo):
            return DownloadState()
        cached = CachedRepository(repo)
        if (plan := self._records.load(repo)) is not None:
            return DownloadState(DownloadStatus.PAUSED, cached.bytes_present(plan), plan.size)
        snapshot = cached.main_snapshot()
        if snapshot is not None and is_complete(snapshot):
            return DownloadState(DownloadStatus.DONE, folder=snapshot)
        return DownloadState()
