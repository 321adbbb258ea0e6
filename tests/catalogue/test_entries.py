"""The catalogue is read whole or not at all, and says of every figure where it is from."""

import json
from pathlib import Path

import pytest

from app.catalogue.entries import catalogue
from app.errors import NibbleError


def test_every_entry_names_its_licence_its_sources_and_the_config_that_sizes_follow_from() -> None:
    entries = catalogue()
    assert len(entries) >= 12
    assert len({e.repo for e in entries}) == len({e.name for e in entries}) == len(entries)
    for entry in entries:
        assert entry.repo.startswith("mlx-community/")
        assert entry.licence
        assert "config:" in entry.sources
        assert "licence" in entry.sources
        assert bool(entry.listed) == ("listing" in entry.sources), entry.repo
        config = json.loads(entry.config)
        assert config["quantization"] == {"group_size": 64, "bits": 4}
        assert entry.context_limit_tokens == config["max_position_embeddings"]


@pytest.mark.parametrize(
    "text", ["", "[[model]]", "not toml", '[[model]]\nrepo = "a/b"\nname = "b"\nlicence = "mit"\nconfig = 1'], ids=repr
)
def test_a_file_that_is_no_catalogue_is_said_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)
    with pytest.raises(NibbleError, match="is no catalogue"):
        catalogue(path)
