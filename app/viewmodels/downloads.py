"""Downloads as the window sees them."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


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
