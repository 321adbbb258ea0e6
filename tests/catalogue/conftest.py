import pytest

from tests.catalogue.download_desk import Desk


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / "downloads")
