"""Opening folders: what is found out about a good one. tests/engine/test_spoilt_folders.py has the bad ones."""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.utils import quantize_model

from app.engine.model_folder import open_model
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
