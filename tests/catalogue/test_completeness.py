import json
import os
import struct
from pathlib import Path

import pytest

from app.catalogue.completeness import is_complete, missing
from app.resources import starter_model_path
from tests.catalogue import small_model
from tests.catalogue.small_model import INDEX, SHARDS


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, data in small_model.files(2000).items():
        if name in small_model.FETCHED:
            (tmp_path / name).write_bytes(data)
    return tmp_path


def test_a_whole_model(folder):
    assert is_complete(folder)


def test_the_starter_model_is_whole():
    assert missing(starter_model_path()) is None


@pytest.mark.parametrize("name", ["config.json", *SHARDS])
def test_a_file_that_is_missing_is_named(folder, name):
    (folder / name).unlink()
    assert name in missing(folder)
    assert not is_complete(folder)


def test_without_a_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    assert "tokenizer" in missing(folder)
    (folder / "tokenizer.model").write_bytes(b"sentencepiece")
    assert is_complete(folder)


def test_without_weights(folder):
    for name in (INDEX, *SHARDS):
        (folder / name).unlink()
    assert missing(folder) == "the weights are missing"


@pytest.mark.parametrize("change", [-1, 1, -2000])
def test_a_weight_file_of_another_length_than_its_header_says(folder, change):
    path = folder / SHARDS[0]
    os.truncate(path, path.stat().st_size + change)
    assert SHARDS[0] in missing(folder)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x01", struct.pack("<Q", 1 << 60), struct.pack("<Q", 4) + b"nope", struct.pack("<Q", 2) + b"[]",
     struct.pack("<Q", 10) + b'{"a": "b"}'],
)  # fmt: skip
def test_a_weight_file_that_is_none(folder, data):
    (folder / SHARDS[1]).write_bytes(data)
    assert SHARDS[1] in missing(folder)


def test_a_weight_file_without_tensors_is_one(folder):
    header = b'{"__metadata__":{"format":"mlx"}}'
    (folder / SHARDS[1]).write_bytes(struct.pack("<Q", len(header)) + header)
    assert is_complete(folder)


@pytest.mark.parametrize("name", ["x.incomplete", "model.safetensors.part"])
def test_something_unfinished(folder, name):
    (folder / name).write_bytes(b"")
    assert name in missing(folder)


def test_a_link_to_nothing_is_no_file(folder):
    (folder / SHARDS[0]).unlink()
    (folder / SHARDS[0]).symlink_to("gone")
    assert SHARDS[0] in missing(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}',
     json.dumps({"weight_map": {"a": "../../model.safetensors"}})],
)  # fmt: skip
def test_an_index_that_cannot_be_trusted(folder, text):
    (folder / INDEX).write_text(text)
    assert INDEX in missing(folder)


def test_shards_without_an_index_say_themselves_how_many_they_are(folder):
    (folder / INDEX).unlink()
    assert is_complete(folder)
    (folder / SHARDS[0]).unlink()
    assert missing(folder) == f"{SHARDS[0]} is missing"


def test_a_folder_that_is_none(tmp_path):
    assert not is_complete(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert not is_complete(tmp_path / "file")
