"""All models there are to choose from: the starter, the catalogue, and those on this machine, in one list.

What each takes is asked of the engine, one model at a time, so that a chat never waits for more than one answer.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from PySide6.QtCore import QObject, Signal

from app.catalogue.entries import CatalogueEntry
from app.catalogue.local_models import LocalModel, local_models
from app.chat.fit import ModelNeeds
from app.engine.protocol import Estimate, Estimated, Failed
from app.settings.schema import Settings
from app.viewmodels.downloads import DownloadState, DownloadStatus
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.model_rows import ModelRow, order
from app.viewmodels.open_model import OpenModel
from app.viewmodels.settings_model import SettingsModel

STARTER = ModelRow(key="", name="Starter", folder="", place="comes with Nibble", licence="apache-2.0")


class Fetching(Protocol):
    """The part of `Downloads` that the list needs."""

    changed: Any
    """Signal: the repository's name."""
    finished: Any
    """Signal: the repository's name, and the Path of its folder."""

    def state(self, repo: str) -> DownloadState:
        """Return how far a repository's download is."""

    def start(self, repo: str, revision: str | None = None) -> None:
        """Begin, or go on."""

    def pause(self, repo: str) -> None:
        """Stop, and keep what was fetched."""

    def cancel(self, repo: str) -> None:
        """Stop, and remove what was fetched."""


class ModelList(QObject):
    """Rows for one window, and what its buttons do. Nothing is looked for and asked before `refresh`."""

    changed = Signal()
    """Rows came or went."""
    row_changed = Signal(str)
    """Something about the row of this key is new."""

    def __init__(
        self,
        engine: EngineClient,
        model: OpenModel,
        settings: SettingsModel,
        entries: Sequence[CatalogueEntry],
        starter_path: Path,
        downloads: Fetching | None = None,
        home: Path | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._model = model
        self._settings = settings
        self._entries = entries
        self._starter_path = starter_path
        self._downloads = downloads
        self._home = home
        self._rows: dict[str, ModelRow] = {}
        self._known: dict[str, ModelNeeds | str] = {}
        """By folder or config: what it takes, or why that is not known."""
        self._asked: tuple[str, str] | None = None
        """The request under way, and what it is about."""
        engine.event_received.connect(self._receive)
        engine.died.connect(self._forget_request)
        engine.started_up.connect(self._ask_next)
        model.changed.connect(self._mark_open)
        self._budget_bytes = settings.settings.memory_budget_bytes
        settings.changed.connect(self._adopt_settings)
        if downloads is not None:
            downloads.changed.connect(self._follow_download)
            downloads.finished.connect(self.refresh)

    @property
    def rows(self) -> list[ModelRow]:
        """All rows, in the order in which they are first shown."""
        return list(self._rows.values())

    @property
    def can_fetch(self) -> bool:
        """Whether models can be fetched at all."""
        return self._downloads is not None

    @property
    def group_size(self) -> int:
        """That of new chats."""
        return self._settings.settings.chat.group_size

    def row(self, key: str) -> ModelRow | None:
        """Return the row with this key."""
        return self._rows.get(key)

    def refresh(self, *_: object) -> None:
        """Look again for models on this machine, and ask what those take of which it is not known yet."""
        local = local_models(self._settings.settings.recent_model_paths, self._home)
        by_repo = {m.repo: m for m in sorted(local, key=lambda m: m.is_complete)}  # a whole one, where there are two
        rows = [STARTER]
        for entry in self._entries:
            rows.append(_entry_row(entry, by_repo.get(entry.repo)))
        listed = {row.folder for row in rows}
        rows += [_local_row(m) for m in local if str(m.folder) not in listed]
        before = list(self._rows)
        self._rows = {row.key: self._completed(row) for row in order(rows)}
        if list(self._rows) != before:
            self.changed.emit()
        else:
            self._tell_all()
        self._ask_next()

    def fetch(self, key: str) -> None:
        """Fetch a model, or go on with it."""
        if self._downloads is not None and (row := self._rows.get(key)) is not None and row.repo:
            self._downloads.start(row.repo)

    def pause(self, key: str) -> None:
        """Stop fetching, and keep what came."""
        if self._downloads is not None and (row := self._rows.get(key)) is not None:
            self._downloads.pause(row.repo)

    def cancel(self, key: str) -> None:
        """Stop fetching, and remove what came."""
        if self._downloads is not None and (row := self._rows.get(key)) is not None:
            self._downloads.cancel(row.repo)

    # Rows

    def _completed(self, row: ModelRow) -> ModelRow:
        """Return a row with what is known besides its folder."""
        known = self._known.get(self._subject(row))
        is_this = row.folder is not None and row.folder == self._model.path
        return replace(
            row,
            needs=known.within(self._budget_bytes) if isinstance(known, ModelNeeds) else None,
            problem=known if isinstance(known, str) else "",
            is_open=is_this and not self._model.is_loading and self._model.facts is not None,
            is_opening=is_this and self._model.is_loading,
            download=self._downloads.state(row.repo) if self._downloads is not None and row.repo else DownloadState(),
        )

    def _update(self, key: str) -> None:
        old = self._rows[key]
        new = self._completed(old)
        if new != old:
            self._rows[key] = new
            self.row_changed.emit(key)

    def _tell_all(self, *_: object) -> None:
        for key in self._rows:
            self.row_changed.emit(key)

    def _adopt_settings(self, settings: Settings) -> None:
        self._budget_bytes = settings.memory_budget_bytes
        self._mark_open()
        self._tell_all()

    def _mark_open(self) -> None:
        for key in self._rows:
            self._update(key)

    def _follow_download(self, repo: str) -> None:
        for key, row in self._rows.items():
            if row.repo == repo:
                if self._downloads is not None and self._downloads.state(repo).status is DownloadStatus.ABSENT:
                    self.refresh()  # what was fetched in part is gone
                    return
                self._update(key)

    # What they take

    def _subject(self, row: ModelRow) -> str:
        """Return what the engine is asked about: a folder where there is a whole one, else a config's text."""
        if row.folder == "":
            return str(self._starter_path)
        if row.folder is not None and row.is_here:
            return row.folder
        return row.config

    def _ask_next(self, *_: object) -> None:
        if self._asked is not None or not self._engine.is_running:
            return
        for row in self._rows.values():
            subject = self._subject(row)
            if subject and subject not in self._known:
                request_id = self._engine.new_request_id()
                self._asked = request_id, subject
                is_config = subject.startswith("{")
                self._engine.send(Estimate(request_id, "" if is_config else subject, subject if is_config else ""))
                return

    def _receive(self, event: object) -> None:
        if self._asked is None or getattr(event, "request_id", None) != self._asked[0]:
            return
        subject = self._asked[1]
        if isinstance(event, Estimated):
            self._known[subject] = event.needs
        elif isinstance(event, Failed):
            self._known[subject] = event.message
        else:
            return
        self._asked = None
        for key, row in list(self._rows.items()):
            if self._subject(row) == subject:
                self._update(key)
        self._ask_next()

    def _forget_request(self, *_: object) -> None:
        self._asked = None


def _entry_row(entry: CatalogueEntry, local: LocalModel | None) -> ModelRow:
    return ModelRow(
        key=entry.repo,
        name=entry.name,
        repo=entry.repo,
        config=entry.config,
        folder=None if local is None else str(local.folder),
        place="" if local is None else local.place.value,
        licence=entry.licence,
        context_tokens=entry.context_limit_tokens,
        other_bytes=entry.other_bytes,
        sources=entry.sources,
        missing="" if local is None else local.missing,
    )


def _local_row(local: LocalModel) -> ModelRow:
    return ModelRow(
        key=str(local.folder),
        name=local.repo.rpartition("/")[2],
        folder=str(local.folder),
        config=local.config,
        place=local.place.value,
        licence=local.licence,
        missing=local.missing,
    )
