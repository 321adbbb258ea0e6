"""Model folders from anywhere: opened or refused with a sentence; nothing of them runs, nothing else is touched."""

import json
import os
import pickle
import resource
import shutil
import struct
import sys
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.folder_check import MOST_CONFIG_BYTES, check_headers
from app.engine.model_folder import open_model
from app.errors import NibbleError
from tests.faults.audit_watch import WATCH
from tests.faults.fuzzing import JSON, damaged, fuzz, mutated, soon
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", num_hidden_layers=1)
    open_model(folder, lambda _: None)  # what is imported for the first time is imported now
    return folder


@pytest.fixture
def folder(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def opens(folder: Path) -> str:
    """Return why a folder is refused; "" where it opens."""
    try:
        with WATCH.on(), soon():
            open_model(folder, lambda _: None)
        reason = ""
    except NibbleError as error:
        reason = error.message
    finally:
        mx.clear_cache()
    assert WATCH.seen == []
    return reason


def test_the_watch_sees(tmp_path):
    with WATCH.on():
        (tmp_path / "a").write_text("x")
        pickle.loads(pickle.dumps(Path))
    assert {event for event, _ in WATCH.seen} == {"open", "pickle.find_class"}


def with_header(header: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(shape: list[int], begin: int = 0, end: int = 4, dtype: str = "F32") -> bytes:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}).encode()


HEADERS = {
    "empty": b"",
    "a header longer than the file": with_header(b"{}", 2**40),
    "a header of 2**64-1 bytes": with_header(b"{}", 2**64 - 1),
    "a header that is no JSON": with_header(b"{" * 1000),
    "a header of many brackets": with_header(b"[" * 1_000_000),
    "a tensor larger than the file": with_header(tensor([2**40], end=2**42), data=b"1234"),
    "a shape that overflows": with_header(tensor([2**33, 2**33]), data=b"1234"),
    "a shape that does not fit its place": with_header(tensor([1000]), data=b"1234"),
    "a negative shape": with_header(tensor([-1]), data=b"1234"),
    "places that go backwards": with_header(tensor([1], 8, 4), data=b"12345678"),
    "places outside": with_header(tensor([1], 2**50, 2**50 + 4), data=b"1234"),
    "an unknown type": with_header(tensor([1], dtype="PICKLE"), data=b"1234"),
    "thirty thousand tensors": with_header(
        json.dumps({f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(30_000)}).encode()
    ),
    "a pickle": pickle.dumps({"a": 1}),
    "more than its tensors": with_header(tensor([1]), data=b"1234" + b"x" * 100),
}


def most_resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_says_more_than_is_there_is_refused_before_anything_is_allocated(folder, name):
    (folder / "model.safetensors").write_bytes(HEADERS[name])
    before = most_resident_bytes()
    assert opens(folder)
    assert most_resident_bytes() - before < 200_000_000


@fuzz(25)
@given(st.data())
def test_damaged_weights_are_refused_or_read(good, tmp_path_factory, data):
    folder = Path(shutil.copytree(good, tmp_path_factory.mktemp("damaged") / "model"))
    content = (good / "model.safetensors").read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    (folder / "model.safetensors").write_bytes(data.draw(damaged(content[:header])) + content[header:])
    with soon():
        try:
            check_headers(folder, {})
        except NibbleError:
            return
    opens(folder)


@fuzz(20)
@given(st.data())
def test_any_config_is_refused_or_opens(good, tmp_path_factory, data):
    folder = Path(shutil.copytree(good, tmp_path_factory.mktemp("config") / "model"))
    config = json.loads((good / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(data.draw(mutated(config))))
    opens(folder)


@fuzz(15)
@given(st.data())
def test_any_tokenizer_is_refused_or_opens(good, tmp_path_factory, data):
    folder = Path(shutil.copytree(good, tmp_path_factory.mktemp("tokenizer") / "model"))
    file = folder / data.draw(st.sampled_from(["tokenizer.json", "tokenizer_config.json"]))
    content = json.loads(file.read_text())
    file.write_text(json.dumps(data.draw(st.one_of(mutated(content), JSON))))
    opens(folder)


CONFIGS = {
    "layers without end": {"num_hidden_layers": 10**9},
    "layers without end, deeper": {"text_config": {"num_hidden_layers": 10**9}},
    "infinitely many layers": {"num_hidden_layers": float("inf")},
    "rows as wide as the world": {"hidden_size": 2**31},
    "words without end": {"vocab_size": 10**12},
    "no heads": {"num_attention_heads": 0},
    "negative": {"intermediate_size": -5},
    "texts for numbers": {"rms_norm_eps": "x", "rope_theta": []},
    "quantized to nothing": {"quantization": {"group_size": 0, "bits": 0}},
    "another's code": {"model_file": "evil.py"},
    "another's code by auto_map": {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}},
    "a path for a type": {"model_type": "../../../evil"},
    "a module for a type": {"model_type": "..utils"},
}


HARMLESS = ("another's code by auto_map", "quantized to nothing")
"""mlx-lm asks for none of those names, and quantizes only what has scales."""


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_allocates_and_runs_nothing(folder, name):
    (folder / "evil.py").write_text("import os; os.system('touch ran')\nclass Config: pass\nclass Model: pass\n")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **CONFIGS[name]}))
    reason = opens(folder)
    assert reason or name in HARMLESS


TOKENIZERS = {
    "code beside it": {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}, "tokenizer_class": "Evil"},
    "code on the net": {"auto_map": {"AutoTokenizer": ["someone/evil--t.Evil", None]}, "tokenizer_class": "Evil"},
    "another module": {"chat_template_type": "evil"},
    "a module outside": {"tool_parser_type": "..evil"},
    "a class that runs programs": {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"},
    "another repository": {"tokenizer_file": "https://example.org/tokenizer.json", "name_or_path": "someone/model"},
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_brings_no_code_and_asks_nobody(folder, monkeypatch, name):
    def ask(*_):
        raise AssertionError("stdin is the protocol")

    monkeypatch.setattr("builtins.input", ask)
    (folder / "evil.py").write_text("import os; os.system('touch ran')\nclass Tokenizer: pass\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **TOKENIZERS[name]}))
    opens(folder)
    assert not list(folder.rglob("ran"))


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.safetensors",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "adapter_config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    ],
)
def test_no_pickle_is_read_under_any_name(folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (folder / name).write_bytes(pickle.dumps(Evil()))
    opens(folder)
    assert not (tmp_path / "ran").exists()


def special(kind: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "endless":
            path.symlink_to("/dev/zero")
        case "itself":
            path.symlink_to(path.name)
        case "nowhere":
            path.symlink_to("nowhere")


@pytest.mark.parametrize("kind", ["pipe", "endless", "itself", "nowhere"])
@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json", "chat_template.jinja"]
)
def test_what_is_no_ordinary_file_is_not_opened(folder, kind, name):
    special(kind, folder / name)
    assert opens(folder)


def test_links_to_ordinary_files_are_followed(folder, tmp_path):
    """As in the cache of Hugging Face's own downloads."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for file in list(folder.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(Path("..") / "blobs" / file.name)
    assert opens(folder) == ""


def test_a_config_larger_than_any_is_not_read(folder):
    with (folder / "config.json").open("r+b") as file:
        file.truncate(MOST_CONFIG_BYTES + 1)
    assert "MB" in opens(folder)


def test_a_config_of_a_million_brackets_is_refused(folder):
    (folder / "config.json").write_text("[" * 1_000_000)
    assert "cannot be read" in opens(folder)


def test_every_special_file_was_made_as_meant(tmp_path):
    for kind in ("pipe", "endless", "itself", "nowhere"):
        special(kind, tmp_path / kind)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["endless", "itself", "nowhere", "pipe"]
    with (tmp_path / "endless").open("rb") as file:
        assert file.read(2) == b"\0\0"
