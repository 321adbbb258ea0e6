"""Folders that cannot be opened, through the real engine's process: a sentence of its own for each, and what to do."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import pytest

from app.engine.child import EngineChild
from app.engine.command import engine_command
from app.engine.protocol import Failed, Load, Loaded
from tests.engine.child_chat import Chat, finished
from tests.tiny_model import write_tiny_model

Spoil = Callable[[Path], object]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def child(good: Path) -> Iterator[EngineChild]:
    with EngineChild(engine_command()) as child:
        assert isinstance(child.ask(Load("first", str(good)))[-1], Loaded)
        yield child
        assert child.quit() == 0


def change(name: str, **changes: object) -> Spoil:
    """Change fields of a JSON file; None takes a field out."""

    def spoil(folder: Path) -> None:
        fields = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))

    return spoil


def config(**changes: object) -> Spoil:
    return change("config.json", **changes)


def write(name: str, content: str | bytes) -> Spoil:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def without(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def renamed(name: str, to: str) -> Spoil:
    return lambda folder: (folder / name).rename(folder / to)


def weights(edit: Callable[[dict[str, mx.array]], dict[str, mx.array]], name: str = WEIGHTS) -> Spoil:
    def spoil(folder: Path) -> None:
        tensors = dict(mx.load(str(folder / WEIGHTS)))
        mx.eval(tensors)
        (folder / WEIGHTS).unlink()
        mx.save_safetensors(str(folder / name), edit(tensors), {"format": "mlx"})

    return spoil


def cut(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def both(*spoils: Spoil) -> Spoil:
    return lambda folder: [spoil(folder) for spoil in spoils]


def inside(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "copy")
    shutil.rmtree(folder)
    folder.mkdir()
    (folder.parent / "copy").rename(folder / "snapshot")


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"a file")


first_layer = weights(lambda t: {k: v for k, v in t.items() if "layers.0." in k}, "model-00001-of-00002.safetensors")
index = write("model.safetensors.index.json", json.dumps({"weight_map": {"a": WEIGHTS, "b": "model-b.safetensors"}}))
of_llama = config(model_type="llama")

SPOILT: dict[str, tuple[Spoil, str]] = {
    "no folder": (shutil.rmtree, "There is no folder"),
    "a file": (a_file, "is a file; a model is a folder"),
    "models one folder further": (inside, "holds no config.json"),
    "no config": (without("config.json"), "holds no config.json"),
    "a GGUF folder": (both(without("config.json"), without(WEIGHTS), write("m.gguf", "GGUF")), "holds a GGUF model"),
    "a PyTorch folder": (renamed(WEIGHTS, "pytorch_model.bin"), "holds PyTorch weights (pytorch_model.bin)"),
    "config is no JSON": (write("config.json", "{"), "config.json cannot be read"),
    "config is no text": (write("config.json", b"\xff\xfe\x00"), "config.json cannot be read"),
    "config is a list": (write("config.json", "[]"), "names no model_type"),
    "config without a type": (config(model_type=None), "names no model_type"),
    "unknown architecture": (config(model_type="no_such_model"), "does not know the architecture 'no_such_model'"),
    "a path for an architecture": (config(model_type="../../evil"), "does not know the architecture"),
    "a helper for an architecture": (config(model_type="cache"), "does not know the architecture 'cache'"),
    "a package is missing": (config(model_type="olmo"), "'olmo' models need a Python package"),
    "code of its own": (config(model_file="evil.py"), "wants to run Python code of its own (evil.py)"),
    "fields are missing": (write("config.json", '{"model_type": "qwen2"}'), "does not describe a 'qwen2' model"),
    "no heads": (config(num_attention_heads=0), "does not describe a 'qwen2' model that mlx-lm can build: ZeroDiv"),
    "a word for a number": (config(hidden_size="big"), "does not describe a 'qwen2' model"),
    "another size": (config(hidden_size=256), "should be (259, 256) and is (259, 128)"),
    "weights of another architecture": (of_llama, "9 tensors have no place in it, such as model.layers.0.self_attn"),
    "tensors are missing": (
        weights(lambda t: {k: v for k, v in t.items() if "layers.1." not in k}),
        "12 tensors are missing, such as model.layers.1.input_layernorm.weight",
    ),
    "a tensor has another shape": (
        weights(lambda t: {k: v[:5] if "norm" in k else v for k, v in t.items()}),
        "should be (128,) and is (5,)",
    ),
    "no weights": (without(WEIGHTS), "holds no weights"),
    "a numbered shard is missing": (first_layer, "lacks a weight file: model-00002-of-00002.safetensors"),
    "a listed shard is missing": (index, "lacks a weight file: model-b.safetensors"),
    "a broken index": (write("model.safetensors.index.json", "{"), "index.json cannot be read"),
    "weights cut short": (cut, f"{WEIGHTS} cannot be read"),
    "empty weights": (write(WEIGHTS, ""), f"{WEIGHTS} cannot be read"),
    "a pointer in place of weights": (write(WEIGHTS, "version https://git-lfs\n"), f"{WEIGHTS} cannot be read"),
    "no tokenizer": (without("tokenizer.json"), "holds no tokenizer"),
    "broken tokenizer": (write("tokenizer.json", "{}"), "The tokenizer in"),
    "broken tokenizer's config": (write("tokenizer_config.json", "{"), "The tokenizer in"),
    "another model's tokenizer": (
        both(
            config(vocab_size=128),
            weights(lambda t: {k: v[:128] if "embed" in k else v for k, v in t.items()}),
        ),
        "has 256 tokens, the model knows 128: it is another model's",
    ),
}


@pytest.mark.parametrize("name", list(SPOILT))
def test_the_sentence_names_what_is_wrong_and_the_hint_what_to_do(
    name: str, good: Path, child: EngineChild, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    spoil, sentence = SPOILT[name]
    spoil(folder)
    answer = child.ask(Load(name, str(folder)))[-1]
    assert isinstance(answer, Failed), answer
    assert sentence in answer.message
    assert answer.hint
    assert not answer.detail, answer.detail


def test_the_model_that_was_open_is_still_open(child: EngineChild) -> None:
    assert finished(Chat(child, "after").events("Hello")).token_ids


def test_a_folder_inside_is_pointed_at(good: Path, child: EngineChild, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "models" / "tiny")
    answer = child.ask(Load("inside", str(tmp_path / "models")))[-1]
    assert isinstance(answer, Failed)
    assert answer.hint == "Choose a folder inside it, such as tiny."


def test_a_gguf_file_is_named(child: EngineChild, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    answer = child.ask(Load("gguf", str(file)))[-1]
    assert isinstance(answer, Failed)
    assert "is a GGUF file" in answer.message


def test_an_index_of_other_weights_is_no_reason(good: Path, child: EngineChild, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    write("model.safetensors.index.json", json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))(folder)
    assert isinstance(child.ask(Load("index", str(folder)))[-1], Loaded)
    assert isinstance(child.ask(Load("again", str(good)))[-1], Loaded)


@pytest.mark.parametrize("name", ["a GGUF folder", "tensors are missing"])
def test_the_command_line_says_it_in_the_same_words(name: str, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    spoil, sentence = SPOILT[name]
    spoil(folder)
    command = [sys.executable, "-m", "app", "--model", str(folder), "--prompt", "Hello"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stdout == ""
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
