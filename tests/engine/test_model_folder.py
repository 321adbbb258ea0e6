"""Opening folders: what is found out about a good one, and the sentence for every kind of bad one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.utils import quantize_model

from app.engine.model_folder import open_model
from app.errors import NibbleError
from tests.tiny_model import build_model, config_of, write_tiny_model


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def silent(_: str) -> None:
    pass


def test_facts_of_a_good_folder(good: Path) -> None:
    steps: list[str] = []
    opened = open_model(good, steps.append)
    assert opened.facts.name == "tiny"
    assert opened.facts.architecture == "qwen2"
    assert opened.facts.layers == opened.facts.int4_layers == 3
    assert opened.facts.notes == ()
    assert opened.facts.context_limit_tokens == 2048
    assert opened.facts.compute_dtype == "float32"
    assert opened.calibration is not None
    assert opened.facts.weight_bytes == opened.facts.parameters * 4 + opened.calibration.nbytes
    assert steps == ["Reading weights", "Reading the tokenizer", "Trying the int4 cache", "Warming up"]


def spoil_config(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.json").write_text(text)


def change_config(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return spoil


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "no folder": (lambda f: shutil.rmtree(f), "There is no folder"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "config is no JSON": (spoil_config("{"), "cannot be read"),
    "config is a list": (spoil_config("[]"), "names no model_type"),
    "unknown architecture": (
        change_config(model_type="no_such_model"),
        "does not know the architecture 'no_such_model'",
    ),
    "a path for an architecture": (change_config(model_type="../../evil"), "does not know the architecture"),
    "code of its own": (change_config(model_file="evil.py"), "wants to run Python code of its own"),
    "a field is missing": (spoil_config('{"model_type": "qwen2"}'), "does not describe a 'qwen2' model"),
    "another architecture": (change_config(hidden_size=256), "do not fit its config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "weights cut short": (cut_weights, "cannot be read"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "holds no tokenizer"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer in"),
}


@pytest.mark.parametrize("name", list(SPOILT))
def test_a_spoilt_folder_is_named_and_says_what_to_do(name: str, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    spoil, sentence = SPOILT[name]
    spoil(folder)
    with pytest.raises(NibbleError) as caught:
        open_model(folder, silent)
    assert sentence in caught.value.message
    assert caught.value.hint


def test_quantized_16_bit_weights_are_expanded_on_a_cpu_and_it_is_said(tmp_path: Path) -> None:
    from mlx.utils import tree_flatten

    folder = write_tiny_model(tmp_path / "quantized", "llama")
    model = build_model("llama")
    model.set_dtype(mx.bfloat16)
    model, config = quantize_model(model, config_of("llama"), group_size=32, bits=4)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    facts = open_model(folder, silent).facts
    assert facts.compute_dtype == "bfloat16"
    if mx.default_device().type == mx.DeviceType.cpu:
        assert facts.weight_bytes == facts.parameters * 2
        assert "expanded" in facts.remarks[0]
