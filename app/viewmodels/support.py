"""Help in trouble: where the logs are, and reports of what broke."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from PySide6.QtCore import QObject, Signal, qVersion

from app.chat.figures import MachineFacts
from app.crash_report import crash_reports, write_crash_report
from app.errors import NibbleError
from app.paths import Paths

_log = logging.getLogger(__name__)


class Support(QObject):
    """Writes crash reports and knows where they lie."""

    changed = Signal()
    """There is a new report."""

    def __init__(
        self,
        paths: Paths,
        machine: Callable[[], MachineFacts | None],
        private: Callable[[], Iterable[str]],
        parent: QObject | None = None,
    ) -> None:
        """`machine` tells what the engine runs on, `private` which texts may stand in no report."""
        super().__init__(parent)
        self._paths = paths
        self._machine = machine
        self._private = private

    @property
    def logs(self) -> Path:
        """The folder with logs and reports."""
        return self._paths.logs

    @property
    def last_report(self) -> Path | None:
        """The newest report."""
        reports = crash_reports(self._paths)
        return reports[0] if reports else None

    def report(self, what: str, detail: str) -> Path | None:
        """Write a report; None, and a line in the log, where that fails: it must not hide what it reports."""
        versions = {"Qt": qVersion() or ""}
        if (machine := self._machine()) is not None:
            versions |= {
                "MLX": f"{machine.mlx_version}, mlx-lm {machine.mlx_lm_version}",
                "Machine": f"{machine.machine}, {machine.os}, {machine.backend}",
            }
        try:
            path = write_crash_report(self._paths, what, detail, versions, self._private())
        except NibbleError as error:
            _log.warning("no crash report: %s", error)
            return None
        self.changed.emit()
        return path

    def report_fault(self, file: Path) -> Path | None:
        """Make a report of what `faulthandler` wrote into `file` as the window's process broke the last time, if so."""
        try:
            fault = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return self.report("Nibble itself broke while it ran the last time.", fault) if fault.strip() else None
