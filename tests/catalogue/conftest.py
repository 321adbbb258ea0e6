import pytest
from huggingface_hub import constants

from tests.catalogue import small_model
from tests.catalogue.local_hub import LocalHub, Repository

REPO = "mlx-community/Small-4bit"


@pytest.fixture
def hub(monkeypatch):
    """A hub with one model, for this process and for those that it starts."""
    hub = LocalHub()
    hub.repositories[REPO] = Repository(small_model.files())
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    yield hub
    hub.close()
