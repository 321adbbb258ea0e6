"""One window a data folder: a lock that the system lets go of when its process ends, however it ends."""

import fcntl
import logging
from pathlib import Path

from app.errors import NibbleError

_log = logging.getLogger(__name__)


class InstanceLock:
    """Held from its making to `release`. Raises NibbleError where another process holds it, or the file cannot be made.

    A second window would take the first one's growing replies for those of a crash, and neither would see what the
    other writes. `flock` and not a process id in a file: nothing is left to be judged after a crash.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise NibbleError(
                f"{path} could not be made: {error.strerror or error}.",
                "Check that you may write there, and that the disk is not full.",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise NibbleError(
                "Nibble is open already, with the same conversations.",
                "Go on in its window, or close that one first.",
            ) from None
        except OSError as error:  # some network file systems have no locks
            _log.warning("%s cannot be locked: %s", path, error)

    def release(self) -> None:
        """Let another window in."""
        self._file.close()
