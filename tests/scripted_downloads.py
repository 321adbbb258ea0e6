"""Downloads that are as far as a test says; and models of other programs, for lists of models."""

from dataclasses import replace

from PySide6.QtCore import QObject, Signal

from app.viewmodels.downloads import DownloadState, DownloadStatus


class ScriptedDownloads(QObject):
    """Stands in for Downloads: notes what is asked, changes when it is told to."""

    changed = Signal(str)
    finished = Signal(str, object)

    def __init__(self, states: dict[str, DownloadState] | None = None) -> None:
        super().__init__()
        self.states = states or {}
        self.asked: list[tuple[str, str]] = []

    def state(self, repo: str) -> DownloadState:
        return self.states.get(repo, DownloadState())

    def start(self, repo: str, revision: str | None = None) -> None:
        self.asked.append(("start", repo))
        self.set(repo, status=DownloadStatus.RUNNING)

    def pause(self, repo: str) -> None:
        self.asked.append(("pause", repo))
        self.set(repo, status=DownloadStatus.PAUSED)

    def cancel(self, repo: str) -> None:
        self.asked.append(("cancel", repo))
        self.set(repo, status=DownloadStatus.ABSENT)

    def set(self, repo: str, **values: object) -> None:
        self.states[repo] = replace(self.state(repo), **values)
        self.changed.emit(repo)
