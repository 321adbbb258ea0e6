"""Opening folders: what is found out about a good one. tests/engine/test_spoilt_folders.py has the bad ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import qwen2
from mlx_lm.models.cache import KVCache
from mlx_lm.utils import quantize_model

from app.chat.figures import LayerNote
from app.chat.message import Message, Role
from app.chat.options import CacheMode
from app.engine.cache_plan import make_caches
from app.engine.mlx_engine import MlxEngine
from app.engine.model_folder import open_model
from app.engine.prompt import prompt_tokens
from app.engine.protocol import Finished, Generate, Load
from app.errors import NibbleError
from kernels import dispatch
from tests.engine.child_chat import GREEDY
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


def with_template(folder: Path, template: str | None) -> Path:
    file = folder / "tokenizer_config.json"
    fields = json.loads(file.read_text())
    fields["chat_template"] = template
    file.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))
    return folder


@pytest.mark.parametrize(
    ("template", "remark"),
    [
        (None, "This model has no chat template: it reads the plain texts"),
        ("{% for m in messages %}", "This model's chat template fails (Unexpected end of template"),
        ("{{ messages[0].nothing.more }}", "fails ("),
        ("{{ raise_exception('not me') }}", "fails (not me)"),
        ("{{ 1 // 0 }}", "fails ("),
    ],
)
def test_without_a_usable_chat_template_the_texts_are_read_plain_and_it_is_said(
    template: str | None, remark: str, tmp_path: Path
) -> None:
    opened = open_model(with_template(write_tiny_model(tmp_path / "m"), template), silent)
    assert len([said for said in opened.facts.remarks if remark in said]) == 1
    prompt = prompt_tokens(opened.tokenizer, (Message(Role.USER, "Hi"),), "Be brief")
    assert opened.tokenizer.decode(prompt) == "user: Be brief\n\nHi\nassistant:"


def test_a_model_that_mlx_lm_cannot_run_here_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, *args: Any, **kwargs: Any) -> mx.array:
        raise RuntimeError("[metal_kernel] No Metal back-end.")

    folder = write_tiny_model(tmp_path / "m")
    monkeypatch.setattr(qwen2.Attention, "__call__", fail)
    with pytest.raises(NibbleError, match=r"mlx-lm cannot run m here: \[metal_kernel\] No Metal back-end") as caught:
        open_model(folder, silent)
    assert caught.value.hint


def test_what_fails_in_int4_alone_stays_fp16_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> mx.array:
        raise RuntimeError("no such operation")

    folder = write_tiny_model(tmp_path / "m")
    monkeypatch.setattr(dispatch, "dequantize_before", fail_when_computed(fail))
    opened = open_model(folder, silent)
    assert opened.facts.int4_layers == 0
    assert opened.facts.notes == (LayerNote((0, 1, 2), "its first tokens failed in int4 (no such operation)"),)
    caches = make_caches(opened.model, opened.plan, CacheMode.INT4, 32, opened.calibration)
    assert [type(cache) for cache in caches] == [KVCache] * 3


def fail_when_computed(fail: Any) -> Any:
    """Let the graphs that planning builds pass, of 9 tokens a chunk; the first tokens come in longer ones."""
    right = dispatch.dequantize_before

    def dequantize_before(codec: Any, codes: mx.array, scales: mx.array, keys: mx.array, values: mx.array) -> Any:
        return (fail if keys.shape[2] > 9 else right)(codec, codes, scales, keys, values)

    return dequantize_before


def test_a_tokenizer_of_few_tokens_is_remarked_on(tmp_path: Path) -> None:
    opened = open_model(write_tiny_model(tmp_path / "m", vocab_size=1024), silent)
    assert "The tokenizer has 256 tokens, the model knows 1,024: it may be another model's." in opened.facts.remarks


def test_a_token_that_the_model_does_not_know_is_never_fed_to_it(tmp_path: Path) -> None:
    """As Gemma 3's word for pictures: the embedding of a text model has no row for it, and MLX would read beyond."""
    folder = write_tiny_model(tmp_path / "m", vocab_size=258)
    with_template(folder, "{% for m in messages %}{{ m.content }}{% endfor %}")
    engine = MlxEngine()  # not closed: that would take MLX's streams from the tests that follow
    events: list[Any] = []
    engine.load(Load("load", str(folder)), events.append, lambda: False)
    ask = Generate("a", "chat", (Message(Role.USER, "Look: <|im_end|>"),), GREEDY)
    with pytest.raises(NibbleError, match="makes a token of this conversation that m does not know") as caught:
        engine.generate(ask, events.append, lambda: False)
    assert caught.value.hint
    engine.generate(replace(ask, messages=(Message(Role.USER, "Look"),)), events.append, lambda: False)
    assert isinstance(events[-1], Finished)
