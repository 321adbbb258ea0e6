"""A download in this process, with a clock of its own, on what the local hub has."""

from pathlib import Path

import pytest

from app.catalogue.download import Download
from app.catalogue.download_protocol import Fetch
from app.catalogue.download_records import DownloadRecords
from app.catalogue.hub import DownloadError
from app.catalogue.hub_cache import CachedRepository
from tests.catalogue.local_hub import REPO, LocalHub, digest_of


class Desk:
    """Starts downloads, and remembers what they said."""

    def __init__(self, folder: Path) -> None:
        self.records = DownloadRecords(folder)
        self.events: list[object] = []
        self.slept: list[float] = []

    def fetch(self, repo: str = REPO, **request) -> Path:
        self.events.clear()
        return Download(Fetch(repo, **request), self.records, self.events.append, self.slept.append).run()

    def failure(self, repo: str = REPO, **request) -> DownloadError:
        with pytest.raises(DownloadError) as caught:
            self.fetch(repo, **request)
        assert caught.value.message
        assert caught.value.hint
        return caught.value

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


def data(hub: LocalHub, name: str) -> bytes:
    return hub.repositories[REPO].files[name]


def part_of(hub: LocalHub, name: str) -> Path:
    return CachedRepository(REPO).folder / "blobs" / f"{digest_of(data(hub, name))}.incomplete"
