"""A tiny model on disk, and opened, for the modules that need one and do not change it."""

from pathlib import Path

import pytest

from app.engine.model_folder import OpenModel, open_model
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def opened(folder: Path) -> OpenModel:
    return open_model(folder, lambda _: None)
