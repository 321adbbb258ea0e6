"""Fetching one file: from where its part ends, through lost connections and a busy hub.

`hf_hub_download` of huggingface_hub 2.4 fetches into a file with a random name and removes it when it fails, so that it
can neither pause nor resume; hence this loop over the hub's own session, headers and errors. Xet is left aside: it
cannot go on with a part either, and the hub serves every file of up to 50 GB by plain HTTP too.
"""

import os
import re
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO

import httpx2
from huggingface_hub import hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, parse_ratelimit_headers

from app.catalogue.download_protocol import FailureKind
from app.catalogue.hub import DownloadError, is_busy, is_lost_connection
from app.catalogue.plan import Plan, PlannedFile

TIMEOUT = httpx2.Timeout(20.0, connect=10.0)
"""Seconds without a byte after which a connection counts as lost."""
MOST_TRIES = 6
"""Tries in a row that bring nothing."""
LONGEST_WAIT_S = 300.0
"""What a hub may ask for; if it asks for more, the download ends and says so."""
SPEED_SPAN_S = 5.0

Wait = Callable[[float, str], None]


class Patience:
    """Decides whether another try is worth it, and waits before it."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait
        self._in_vain = 0

    def reward(self) -> None:
        """Start counting anew: something came."""
        self._in_vain = 0

    def bear(self, error: Exception) -> None:
        """Wait, or raise `error` again where waiting is of no use."""
        self._in_vain += 1
        if self._in_vain >= MOST_TRIES or not (is_busy(error) or is_lost_connection(error)):
            raise error
        wait_s = float(min(2 ** (self._in_vain - 1), 16))
        why = "The connection was lost"
        if isinstance(error, HfHubHTTPError):
            why = "The hub is busy"
            wait_s = _asked_wait_s(error.response) or wait_s
            if wait_s > LONGEST_WAIT_S:
                raise error
        self._wait(wait_s, why)


class Speed:
    """Bytes per second over the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._points: deque[tuple[float, int]] = deque([(clock(), 0)])

    def add(self, count: int) -> None:
        """Note that `count` more bytes came."""
        now_s = self._clock()
        self._points.append((now_s, self._points[-1][1] + count))
        while now_s - self._points[1][0] > SPEED_SPAN_S:
            self._points.popleft()

    @property
    def bytes_per_s(self) -> float | None:
        """The mean; None before half a second has passed."""
        (then_s, before), (_, after) = self._points[0], self._points[-1]
        span_s = self._clock() - then_s
        return (after - before) / span_s if span_s >= 0.5 else None


def fetch(
    plan: Plan, file: PlannedFile, part: Path, token: str | None, wait: Wait, came: Callable[[int], None]
) -> None:
    """Bring `part` to the file's whole length; `came` is told bytes as they come, negative where some were dropped.

    Raises DownloadError, what the hub and the network raise, and OSError.
    """
    url = hf_hub_url(plan.repo, file.name, revision=plan.commit)
    headers = build_hf_headers(token=token or False) | {"Accept-Encoding": "identity"}
    patience = Patience(wait)
    with part.open("ab") as sink:
        while (start := sink.tell()) != file.size:
            if start > file.size:
                came(-start)
                sink.truncate(0)
                sink.seek(0)
                continue
            try:
                _receive(url, headers, file, sink, patience, came)
            except (httpx2.TransportError, HfHubHTTPError) as error:
                if isinstance(error, HfHubHTTPError) and error.response.status_code == 416:
                    raise _misfit(file) from error
                patience.bear(error)
        os.fsync(sink.fileno())


def _receive(
    url: str,
    headers: dict[str, str],
    file: PlannedFile,
    sink: BinaryIO,
    patience: Patience,
    came: Callable[[int], None],
) -> None:
    """Ask once for what is missing and append what comes."""
    start = sink.tell()
    asked = headers | ({"Range": f"bytes={start}-"} if start else {})
    with get_session().stream("GET", url, headers=asked, timeout=TIMEOUT) as response:
        hf_raise_for_status(response)
        if start and response.status_code == 200:  # the server knows no ranges: it sends all of it again
            came(-start)
            sink.truncate(0)
            sink.seek(0)
            start = 0
        if _length(response, start) not in (None, file.size):
            raise _misfit(file)
        for chunk in response.iter_bytes():
            if sink.tell() + len(chunk) > file.size:
                raise _misfit(file)
            sink.write(chunk)
            sink.flush()  # what came outlives a kill
            came(len(chunk))
            patience.reward()
    if sink.tell() == start:
        raise _misfit(file)


def _length(response: httpx2.Response, start: int) -> int | None:
    """Return the whole file's length by the answer's headers; -1 for a range that does not begin at `start`."""
    if response.status_code == 206:
        sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        return int(sent[2]) if sent and int(sent[1]) == start and "Content-Encoding" not in response.headers else -1
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() and "Content-Encoding" not in response.headers else None


def _asked_wait_s(response: httpx2.Response) -> float | None:
    """Return how long the hub asks to stay away."""
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):  # none, or a date that is none
        return None


def _misfit(file: PlannedFile) -> DownloadError:
    return DownloadError(
        FailureKind.CORRUPT,
        f"What the hub sends for {file.name} has not the {file.size:,} bytes that it should have.",
        "Resume later; if it comes back, the model is damaged on the hub.",
    )
