"""The whole-model benchmark: what it measures is what it says, in both modes, with rings too."""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from app.chat.figures import CacheFigures
from app.chat.options import CacheMode
from app.engine.bench.__main__ import main, rows, run
from app.engine.bench.figures import ContextFigures, GpuFigures, ModeFigures, compared
from app.engine.bench.measurement import Effort, ModeRun, gpu_figures, measure, warm_up
from app.engine.bench.random_model import SHAPES, random_model, uncomputed_model
from app.engine.model_folder import OpenModel
from app.errors import NibbleError
from kernels.bench.clock import Clock, Figure, Timing
from tests.tiny_model import config_of, write_tiny_model

EFFORT = Effort(group_size=32, chunk_tokens=24, prefills=1, tokens=4, rounds=3, warm_up_s=0.0)


def tiny(model_type: str, **overrides: object) -> OpenModel:
    return random_model(f"tiny {model_type}", config_of(model_type, **overrides), 16)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("qwen2.5-1.5b", 1_543_714_304),
        ("gemma-3-1b", 999_885_952),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.1-8b", 8_030_261_248),
    ],
)
def test_shapes_are_the_published_ones(name: str, parameters: int) -> None:
    """The published counts of parameters; no weight is computed for it."""
    model = uncomputed_model(SHAPES[name])
    assert sum(w.size for _, w in tree_flatten(model.parameters())) == parameters


@pytest.mark.parametrize("model_type", ["qwen2", "llama", "gemma3_text"])
def test_random_weights_keep_activations_finite_and_different(model_type: str) -> None:
    opened = tiny(model_type, num_hidden_layers=24)
    logits = opened.model(mx.random.randint(0, 256, (1, 96), key=mx.random.key(1)))[0].astype(mx.float32)
    assert mx.isfinite(logits).all().item()
    assert 0.1 < mx.std(logits).item() < 100
    assert len(set(logits.argmax(axis=-1).tolist())) > 10
    assert {w.dtype for _, w in tree_flatten(opened.model.parameters())} == {mx.bfloat16}
    assert opened.facts.compute_dtype == "bfloat16"


def test_four_bit_weights_take_a_quarter() -> None:
    config = config_of("llama", intermediate_size=128)
    plain, quantized = (random_model("tiny", config, bits) for bits in (16, 4))
    assert plain.facts.parameters == quantized.facts.parameters
    assert quantized.facts.weight_bytes == pytest.approx(plain.facts.weight_bytes * 4.5 / 16, rel=0.02)
    assert quantized.facts.remarks == ("Random weights, 4 bits.",)


def test_where_mlx_has_no_kernel_for_four_bits_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> mx.array:
        raise RuntimeError("no implementation for problem shape")

    monkeypatch.setattr(mx, "quantized_matmul", missing)
    with pytest.raises(NibbleError, match=r"4-bit weights here: no implementation .* --bits 16"):
        random_model("tiny", config_of("llama", intermediate_size=128), 4)


@pytest.mark.parametrize("model_type", ["qwen2", "gemma3_text"])
def test_both_modes_are_measured_at_every_context(model_type: str) -> None:
    opened = tiny(model_type)
    report = run(opened, [32, 64], EFFORT, None)
    assert json.loads(json.dumps(report)) == report
    assert [c["context_tokens"] for c in report["contexts"]] == [32, 64]
    for context in report["contexts"]:
        fp16, int4 = context["fp16"], context["int4"]
        assert (fp16["cache"]["mode"], int4["cache"]["mode"]) == ("fp16", "int4")
        assert int4["cache"]["path"] == "cpu, plain MLX operations"
        assert 0 < int4["cache"]["allocated_bytes"] < fp16["cache"]["allocated_bytes"]
        for mode in (fp16, int4):
            assert 0 < mode["decode_ms"]["p20"] <= mode["decode_ms"]["median"] <= mode["decode_ms"]["p80"]
            assert 0 < mode["build_ms"] + mode["submit_ms"] < 2 * mode["decode_ms"]["p80"]
            assert mode["prefill_tokens_per_s"] > 0
            assert mode["prefill_peak_bytes"] > opened.facts.weight_bytes
            assert mode["decode_peak_bytes"] > opened.facts.weight_bytes
            assert mode["gpu"] is None
        assert context["speed"] == fp16["decode_ms"]["median"] / int4["decode_ms"]["median"]
        # One position of a tiny random model: mostly 0.1, but what has nothing in common differs by some 1.4.
        assert 0 < context["logits_difference"] < 0.9
    assert report["machine"]["mlx_version"]
    assert report["model"]["name"] == f"tiny {model_type}"


@pytest.mark.parametrize("mode", CacheMode)
def test_decoding_is_taken_back_where_no_window_is_full(mode: CacheMode) -> None:
    opened = tiny("gemma3_text")  # rings of 32
    within, beyond = (ModeRun(opened, mode, EFFORT) for _ in range(2))
    within.read(mx.zeros(20, mx.int32))
    beyond.read(mx.zeros(40, mx.int32))
    for run_of_mode in (within, beyond):
        run_of_mode.decode(4)
        run_of_mode.next_logits()
    assert {c.offset for c in within.caches} == {20}
    assert {c.offset for c in beyond.caches} == {45}
    assert {c.size() for c in beyond.caches} == {32, 45}


@pytest.mark.parametrize("mode", CacheMode)
def test_logits_are_those_right_after_the_prompt(mode: CacheMode) -> None:
    """A window that is full keeps the tokens of greedy steps, of which each mode may choose others."""
    opened = tiny("gemma3_text")  # rings of 32
    prompt = mx.random.randint(0, 256, (40,), key=mx.random.key(0))
    filled, fresh = (ModeRun(opened, mode, EFFORT) for _ in range(2))
    logits = filled.fill(prompt, others_bytes=0)
    fresh.read(prompt)
    assert mx.array_equal(logits, fresh.next_logits())
    assert not mx.array_equal(logits, filled.next_logits())


def test_a_modes_peak_is_its_own() -> None:
    """With other conversations in memory the figures are those of a process without them, but for MLX's own order."""
    opened = tiny("llama", head_dim=128)
    warm_up(opened, EFFORT)
    prompt = mx.zeros(600, mx.int32)
    weights_bytes = mx.get_active_memory()
    alone = ModeRun(opened, CacheMode.INT4, EFFORT)
    alone.fill(prompt, others_bytes=0)
    others = [alone, *(ModeRun(opened, CacheMode.INT4, EFFORT) for _ in range(2))]
    for other in others[1:]:
        other.fill(prompt, mx.get_active_memory() - weights_bytes)
    other_bytes = mx.get_active_memory() - weights_bytes
    beside = ModeRun(opened, CacheMode.INT4, EFFORT)
    beside.fill(prompt, other_bytes)
    assert other_bytes > 1_500_000
    assert abs(beside.prefill_peak_bytes - alone.prefill_peak_bytes) < other_bytes / 4
    assert abs(beside.decode_peak_bytes - alone.decode_peak_bytes) < other_bytes / 4


class CountingClock(Clock):
    """Tells kernels apart, as on NVIDIA; the times are given."""

    def __init__(self) -> None:
        self.has_kernels = True
        self.runs = 0

    def time(self, run: object) -> Timing:
        assert callable(run)
        run()
        self.runs += 1
        return Timing(span_us=9000.0, by_kernel_us={"gemv": 3000.0, "attend": 1000.0 * self.runs})


def test_gpu_time_stands_beside_the_wall_clock_where_there_is_any() -> None:
    clock = CountingClock()
    figures = measure(tiny("llama"), 32, EFFORT, clock)
    assert clock.runs == 6
    assert figures.fp16.gpu is not None
    assert figures.int4.gpu is not None
    assert figures.gpu_speed == figures.fp16.gpu.busy_ms / figures.int4.gpu.busy_ms
    assert f"of the GPU's work {figures.gpu_speed:.2f}" in rows(figures)


def test_gpu_figures_are_the_middle_timing_for_one_token() -> None:
    times = [Timing(9000.0, {"a": float(a), "b": 4000.0}) for a in (8000, 1000, 6000)]
    assert gpu_figures(times, 4) == GpuFigures(busy_ms=2.5, span_ms=2.25, longest_ms=(("a", 1.5), ("b", 1.0)))


def mode_figures(median_ms: float, busy_ms: float, prefill: float) -> ModeFigures:
    return ModeFigures(
        decode_ms=Figure(median_ms - 1, median_ms, median_ms + 1),
        build_ms=1.0,
        submit_ms=2.0,
        gpu=GpuFigures(busy_ms, busy_ms, ()),
        prefill_tokens_per_s=prefill,
        prefill_peak_bytes=3_000_000,
        decode_peak_bytes=2_000_000,
        cache=CacheFigures(CacheMode.FP16, 32, "", 0, 0, 0, 0, 0, 0, 0),
    )


def test_ratios() -> None:
    found = compared(
        256, mode_figures(6.0, 3.0, 500.0), mode_figures(4.0, 2.4, 400.0), [(6.0, 4.0), (5.0, 5.0), (8.0, 4.0)], 0.1
    )
    assert (found.speed, found.gpu_speed, found.prefill_speed) == (1.5, 1.25, 0.8)
    assert found.round_speed == Figure(p20=pytest.approx(1.2), median=1.5, p80=pytest.approx(1.8))
    assert "int4's speed / fp16's: 1.50 (1.20 to 1.80), of the GPU's work 1.25, of prefill 0.80" in rows(found)
    assert isinstance(found, ContextFigures)


def test_the_command_line_prints_a_table_and_one_line_of_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_tiny_model(tmp_path / "tiny"), tmp_path / "figures.json"
    short = ["--tokens", "2", "--rounds", "2", "--warm-up", "0", "--chunk", "16"]
    assert main(["--model", str(folder), "--contexts", "32", "64", *short, "--out", str(out)]) == 0
    *table, line = capsys.readouterr().out.splitlines()
    assert sum("fp16" in row.split()[1:2] for row in table) == 2
    assert sum("int4" in row.split()[1:2] for row in table) == 2
    assert json.loads(line) == json.loads(out.read_text())
    assert [c["context_tokens"] for c in json.loads(line)["contexts"]] == [32, 64]


def test_a_model_that_cannot_be_int4_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Gemma 2 caps its scores and multiplies them itself."""
    folder = write_tiny_model(tmp_path / "capped", "gemma2", query_pre_attn_scalar=32)
    assert main(["--model", str(folder), "--contexts", "32"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("No layer of capped can hold its cache in int4: the model hands its keys or values")
