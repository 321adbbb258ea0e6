"""A store of conversations in a folder of the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nibble.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store(path)
    yield made
    made.close()
