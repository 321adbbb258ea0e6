"""One download from plan to snapshot: ask, look for room, fetch, check, link. Nothing is named before it is checked."""

import errno
import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from app.catalogue.completeness import missing
from app.catalogue.download_protocol import Checking, Emit, FailureKind, Fetch, Planned, Progress, Waiting
from app.catalogue.download_records import DownloadRecords
from app.catalogue.hub import DownloadError, explained, is_busy, plan_of
from app.catalogue.hub_cache import CachedRepository, cache_folder
from app.catalogue.plan import Plan, PlannedFile
from app.catalogue.transfer import Patience, Speed, fetch
from app.paths import move_aside

RESERVE_BYTES = 1_000_000_000
"""What is left free on the disk, so that the system goes on working."""
_IS_MAC = sys.platform == "darwin"
_FREE = "free (Finder adds what macOS would have to clear away first)" if _IS_MAC else "free"
_SET_HF_HOME = "say launchctl setenv HF_HOME FOLDER, of a folder" if _IS_MAC else "set HF_HOME to a folder"
"""Apps do not see what a shell's settings say."""
REPORT_INTERVAL_S = 0.25
_READ_BYTES = 1 << 20


class Download:
    """Fetches one repository; may be stopped anywhere by an exception and be begun anew later."""

    def __init__(
        self,
        request: Fetch,
        records: DownloadRecords,
        emit: Emit,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = request
        self._records = records
        self._emit = emit
        self._sleep = sleep
        self._clock = clock
        self._done = 0
        self._total = 0
        self._speed = Speed(clock)
        self._reported_s = 0.0

    def run(self) -> Path:
        """Return the folder of the whole, checked model. Raises DownloadError, NibbleError, and defects as they are."""
        try:
            return self._run()
        except Exception as error:
            if (known := explained(error, self._request.repo, bool(self._request.token))) is not None:
                raise known from error
            if isinstance(error, OSError):
                raise _disk_error(error) from error
            raise

    def _run(self) -> Path:
        plan = self._plan()
        cached = CachedRepository(plan.repo)
        with _locked(cached, plan):
            self._prepare(plan, cached)
            for file in sorted(plan.files, key=lambda file: file.size):
                if cached.whole(plan, file) is None:
                    fetch(plan, file, cached.part(file), self._request.token, self._wait, self._came)
            self._report()
            self._check(plan, cached)
            _look_for_model(plan, cached)
            snapshot = cached.link(plan)
        self._records.remove(plan.repo)
        return snapshot

    def _plan(self) -> Plan:
        request, patience = self._request, Patience(self._wait)
        while True:
            try:
                return plan_of(request.repo, request.revision, request.token)
            except Exception as error:
                if not is_busy(error):
                    raise
                patience.bear(error)

    def _prepare(self, plan: Plan, cached: CachedRepository) -> None:
        older = self._records.load(plan.repo)
        wanted = {file.digest for file in plan.files}
        if older is not None:
            cached.discard(tuple(file for file in older.files if file.digest not in wanted))
        self._total, self._done = plan.size, cached.bytes_present(plan)
        _check_room(self._total - self._done)
        (cached.folder / "blobs").mkdir(parents=True, exist_ok=True)
        self._records.save(plan)
        self._emit(Planned(len(plan.files), self._total, self._done))

    def _check(self, plan: Plan, cached: CachedRepository) -> None:
        checked = 0
        for file in plan.files:
            path = cached.whole(plan, file) or cached.part(file)
            hasher = hashlib.sha256() if file.is_lfs else hashlib.sha1(f"blob {file.size}\0".encode())
            with path.open("rb") as stream:
                while data := stream.read(_READ_BYTES):
                    hasher.update(data)
                    checked += len(data)
                    if self._is_due():
                        self._emit(Checking(checked, self._total))
            if hasher.hexdigest() != file.digest:
                self._reject(file, path, cached)
            if path == cached.part(file):
                path.replace(cached.blob(file))

    def _reject(self, file: PlannedFile, path: Path, cached: CachedRepository) -> None:
        if path == cached.part(file):
            path.unlink()
        else:  # it was there before, and a snapshot may name it
            move_aside(path.resolve(), "damaged")
        raise DownloadError(
            FailureKind.CORRUPT,
            f"{file.name} is not what the hub says it is: its checksum differs.",
            "Resume: this file is fetched again, the others are kept.",
        )

    def _came(self, count: int) -> None:
        self._done += count
        self._speed.add(max(0, count))
        if self._is_due():
            self._report()

    def _report(self) -> None:
        speed = self._speed.bytes_per_s
        self._emit(Progress(self._done, speed, (self._total - self._done) / speed if speed else None))

    def _is_due(self) -> bool:
        now_s = self._clock()
        if now_s - self._reported_s < REPORT_INTERVAL_S:
            return False
        self._reported_s = now_s
        return True

    def _wait(self, seconds: float, why: str) -> None:
        self._emit(Waiting(seconds, why))
        self._sleep(seconds)


@contextmanager
def _locked(cached: CachedRepository, plan: Plan) -> Iterator[None]:
    """Hold the locks that the hub's programs take for each file, and another Nibble too."""
    cached.locks.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for digest in sorted({file.digest for file in plan.files}):
            try:
                stack.enter_context(FileLock(cached.locks / f"{digest}.lock", timeout=0))
            except Timeout as error:
                raise DownloadError(
                    FailureKind.IN_USE,
                    f"Another program is fetching {plan.repo}.",
                    "Wait until it is done, or stop it there.",
                ) from error
        yield


def _look_for_model(plan: Plan, cached: CachedRepository) -> None:
    """Raise DownloadError where the files of `plan`, all whole, make no whole model; tried before they have names."""
    with TemporaryDirectory() as folder:
        for file in plan.files:
            path = cached.whole(plan, file) or cached.blob(file)
            (Path(folder) / file.name).symlink_to(path.absolute())
        why = missing(Path(folder))
    if why is not None:
        raise DownloadError(
            FailureKind.UNSUITABLE,
            f"{plan.repo} is no whole model: {why}.",
            "Cancel to remove what was fetched, and choose another one.",
        )


def _check_room(wanted: int) -> None:
    free = shutil.disk_usage(cache_folder()).free
    if wanted and wanted + RESERVE_BYTES > free:
        short = wanted + RESERVE_BYTES - free
        raise DownloadError(
            FailureKind.DISK,
            f"The disk is too full: {_gb(wanted)} are wanted and {_gb(free)} are {_FREE}.",
            f"Make {_gb(short)} more room, or {_SET_HF_HOME} on another disk and start Nibble again.",
        )


def _disk_error(error: OSError) -> DownloadError:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(FailureKind.DISK, "The disk is full.", "Make room, then resume. What was fetched is kept.")
    return DownloadError(
        FailureKind.DISK,
        f"The Hugging Face cache cannot be written: {error.strerror or error}{where}.",
        f"Check that you may write in {cache_folder()}, then resume.",
    )


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
