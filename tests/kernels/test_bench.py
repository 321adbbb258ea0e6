"""The benchmark, as far as it goes without a GPU: on the emulator, or with plain operations in the kernels' place."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import mlx.core as mx
import pytest

from kernels import bulk, dispatch, fused, reference
from kernels.bench import __main__ as command
from kernels.bench import appending, ceilings, check, report
from kernels.bench.cases import COLD_BYTES, SHAPES, Case, bf16_attention, bf16_step, chain, int4_attention, int4_step
from kernels.bench.ceilings import Ceilings
from kernels.bench.clock import Clock, Figure, Timing, figure
from kernels.bench.comparison import compare, kernel_name
from kernels.bench.reading import read_over
from kernels.bench.tuning import Tuned, tune
from kernels.cuts import Cut, cut_for, possible_cuts
from tests.kernels.plain_kernels import plain_attention, plain_dequantize, plain_quantize, plain_step
from tests.metal_host.fixtures import require_compiler
from tests.metal_host.stand_in import metal_host

SMALL = Case(4, 2, 64, 70)


@pytest.fixture
def plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernels are plain operations, without a clock that sees kernels, and small."""
    monkeypatch.setattr(dispatch, "backend", lambda: "metal")
    monkeypatch.setattr(fused, "append_and_attend", plain_step)
    monkeypatch.setattr(fused, "attend", plain_attention)
    monkeypatch.setattr(bulk, "quantize", plain_quantize)
    monkeypatch.setattr(bulk, "dequantize", plain_dequantize)
    monkeypatch.setattr("kernels.bench.clock._torch_profiler", lambda: None)
    monkeypatch.setattr("kernels.bench.clock._WARM_UP_S", 0.0)
    monkeypatch.setattr("kernels.bench.cases._MOST_LAYERS", 3)
    monkeypatch.setattr("kernels.bench.cases._FEWEST_LAYERS", 2)
    monkeypatch.setattr("kernels.bench.comparison._HOST_ROUNDS", 2)


@pytest.fixture
def emulator():
    require_compiler()
    with metal_host("fast", 0) as host:
        yield host


def failures(findings: Any) -> list[str]:
    return [str(finding) for finding in findings if not finding.passed]


STEPS = [
    {},
    {"new_tokens": 4, "mask": "causal", "calibrated": True, "again": True},
    {"new_tokens": 4, "mask": "array", "again": True},
    {"window": 48, "again": True},
]


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("how", STEPS, ids=str)
def test_the_kernels_pass_the_check(how: dict[str, Any]) -> None:
    assert failures(check.step("metal", SMALL, **how)) == []


@pytest.mark.usefixtures("emulator")
def test_the_kernels_of_many_tokens_pass_the_check() -> None:
    assert failures(check.append("metal", 80, 32, 16)) == []
    assert failures([check.dequantize("metal", 80, 32, 16)]) == []


@pytest.mark.usefixtures("plain_kernels")
@pytest.mark.parametrize("how", STEPS, ids=str)
def test_the_plain_step_passes_the_check_with_an_error_within_the_limit_by_half(how: dict[str, Any]) -> None:
    findings = list(check.step("metal", SMALL, **how))
    assert failures(findings) == []
    assert findings[-1].error == pytest.approx(findings[-1].limit / 2, rel=0.2)


@pytest.mark.usefixtures("plain_kernels")
def test_the_checks_cover_every_head_size_shape_and_kind_of_step() -> None:
    findings = list(check.checks("metal"))
    assert failures(findings) == []
    what = "\n".join(finding.what for finding in findings)
    for part in (
        *(f"append, D = {head_dim}" for head_dim in (64, 80, 96, 128, 192, 256)),
        *(f"step {hq},{hk},{head_dim} at 1,000" for hq, hk, head_dim in SHAPES),
        *(f"step 8,4,{head_dim} at 1,000" for head_dim in (80, 96, 192)),
        *("dequantize", "G = 64", "4 new, causal mask", "4 new, array mask", "a ring of 480", "attention alone"),
    ):
        assert part in what


def broken(**change: Callable[[mx.array], mx.array]) -> Any:
    """Return the step with one thing changed after it was right."""

    def run(*arguments: Any) -> tuple[mx.array, mx.array]:
        result, following = plain_step(*arguments)
        codes, scales = arguments[5], arguments[6]
        if "codes" in change:
            codes[:] = change["codes"](codes)
        if "scales" in change:
            scales[:] = change["scales"](scales)
        return change.get("result", mx.array)(result), change.get("following", mx.array)(following)

    return run


@pytest.mark.usefixtures("plain_kernels")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"result": lambda r: r * 1.01}, "relative error"),
        ({"result": lambda r: mx.where(r == r.max(), float("nan"), r)}, "relative error"),
        ({"following": lambda p: p - 1}, "next position"),
        ({"codes": lambda c: mx.where(mx.arange(256)[:, None] == 68, 0, c)}, "other codes and scales"),
        ({"codes": lambda c: mx.where(mx.arange(256)[:, None] == 69, 0x88888888, c)}, "codes off by more"),
        ({"scales": lambda s: mx.where(mx.arange(256)[:, None] == 69, s * 1.01, s)}, "error of a scale"),
        ({"scales": lambda s: mx.where(mx.arange(256)[:, None] == 69, float("nan"), s)}, "error of a scale"),
        ({"scales": lambda s: mx.where(mx.arange(256)[:, None] == 69, s * 1.09, s)}, "scales chosen otherwise"),
        ({"scales": lambda s: mx.where(mx.arange(256)[:, None] == 69, s * 1.09, s)}, "in squared error"),
    ],
)
def test_a_broken_step_fails_the_check(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str) -> None:
    monkeypatch.setattr(fused, "append_and_attend", broken(**change))
    assert any(said in line for line in failures(check.step("metal", SMALL)))


@pytest.mark.usefixtures("plain_kernels")
def test_a_broken_attention_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(*arguments: Any) -> tuple[mx.array, mx.array]:
        result, position = plain_attention(*arguments)
        return result * 1.01, position

    monkeypatch.setattr(fused, "attend", off)
    assert failures(check.step("metal", SMALL)) == []
    (line,) = failures(check.step("metal", SMALL, again=True))
    assert "attention alone: relative error" in line


@pytest.mark.usefixtures("plain_kernels")
def test_a_step_that_sees_a_row_without_a_token_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_more(*arguments: Any) -> tuple[mx.array, mx.array]:
        _, following = plain_step(*arguments)
        codec, _, queries, *_, codes, scales, _, tokens, scale, mask, _window = arguments
        seen = (codes[..., : tokens + 1, :], scales[..., : tokens + 1, :])
        return reference.attend(codec, queries, *seen, scale, mask), following

    monkeypatch.setattr(fused, "append_and_attend", one_more)
    assert any("relative error: nan" in line for line in failures(check.step("metal", SMALL)))


@pytest.mark.usefixtures("plain_kernels")
@pytest.mark.parametrize("off_by", [1, 2])
def test_codes_that_differ_more_often_than_by_rounding_fail_the_check(
    monkeypatch: pytest.MonkeyPatch, off_by: int
) -> None:
    def shifted(*arguments: Any) -> tuple[mx.array, mx.array]:
        codes, scales = plain_quantize(*arguments)
        nibble = codes & 15
        wrong = (mx.random.uniform(shape=codes.shape) < 0.01) & (nibble < 14)
        return codes + mx.where(wrong, off_by, 0).astype(mx.uint32), scales

    monkeypatch.setattr(bulk, "quantize", shifted)
    said = "off by one" if off_by == 1 else "off by more"
    assert any(said in line for line in failures(check.append("metal", 96, 64, 64)))


@pytest.mark.usefixtures("emulator")
def test_reading_over_copies_and_reads_everything() -> None:
    require_compiler()
    x = mx.random.normal((1, 3, 1, 70), mx.bfloat16)
    big = mx.random.randint(0, 2**31 - 1, (4096,)).astype(mx.uint32)
    with metal_host("checked", 0) as host:
        assert mx.array_equal(read_over(x, "metal", big, threadgroups=2), x)
        assert host.last.traffic["big"].touched == big.nbytes


def test_figures_are_the_median_and_fifths() -> None:
    assert figure([3.0]) == Figure(3.0, 3.0, 3.0)
    assert figure([5.0, 1.0, 3.0, 2.0, 4.0, 6.0]) == Figure(2.0, 3.5, 5.0)


def test_a_timing_counts_all_kernels_but_the_flush() -> None:
    timing = Timing(
        100.0, {"custom_kernel_nibble_attend_whole_x": 5.0, "custom_kernel_nibble_read_x": 60.0, "copy": 2.0}
    )
    assert timing.busy_us == 7.0
    assert Timing(100.0).busy_us == 100.0
    assert [kernel_name(name) for name in timing.by_kernel_us] == ["attend_whole", "read", "copy"]
    assert kernel_name("custom_kernel_nibble_attend_merge__x") == "attend_merge"


@pytest.mark.usefixtures("plain_kernels")
def test_runs_take_turns_and_every_other_round_goes_the_other_way() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    timings = Clock().compare(runs, 3)
    assert order[-6:] == ["a", "b", "b", "a", "a", "b"]
    assert [len(t) for t in timings.values()] == [3, 3]


def test_a_chain_is_as_long_as_its_int4_caches_need_to_be_cold() -> None:
    for case in (Case(12, 2, 128, 256), Case(4, 1, 256, 256), Case(32, 8, 64, 1024), Case(32, 8, 128, 65536)):
        assert case.layer_count * case.int4_bytes >= COLD_BYTES
        assert case.is_cold
        assert case.layer_count == 8 or (case.layer_count - 1) * case.int4_bytes < COLD_BYTES
    assert not Case(4, 1, 64, 256).is_cold


@pytest.mark.usefixtures("plain_kernels")
def test_layers_hold_codes_that_quantize_could_have_made_and_chains_depend_on_every_layer() -> None:
    layers = SMALL.layers(2)
    nibbles = (layers[0].codes[..., None] >> mx.arange(0, 32, 4, dtype=mx.uint32)) & 15
    assert (nibbles.min().item(), nibbles.max().item()) == (0, 15)
    assert layers[1].position[0].item() == SMALL.tokens - 1
    for step in (bf16_attention, bf16_step, int4_attention, int4_step):
        query = SMALL.query()
        run = chain(SMALL, layers, step, query)
        before = run()
        mx.eval(before)
        layers[0].values[..., 3, :] += 1
        layers[0].codes[1, ..., 3, :] = 0xFFFFFFFF - layers[0].codes[1, ..., 3, :]
        assert not mx.array_equal(run(), before)


def test_tuning_picks_the_fastest_and_the_rule_where_none_is_faster() -> None:
    rule, other, third = Cut(1, 4, 2), Cut(2, 4, 2), Cut(2, 8, 1)
    us = {other: figure([5.0, 9.0, 6.0]), rule: figure([7.0, 6.5, 7.5]), third: figure([8.0])}
    tuned = Tuned(SMALL, rule, us, {})
    assert tuned.best == other
    assert tuned.loss == pytest.approx(7.0 / 6.0)
    assert Tuned(SMALL, rule, {other: us[rule], rule: us[rule]}, {}).best == rule
    assert "| 4,2,64 | 70 | 1x4x2 | 7.0 (6.7-7.3) | 2x4x2 | 6.0 (5.4-7.8) | 1.17 |" in report.cuts([tuned])
    assert json.loads(json.dumps(tuned.plain()))["best"] == asdict(other)


@pytest.mark.usefixtures("plain_kernels")
def test_tuning_leaves_out_cuts_that_fail_or_compute_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = cut_for("metal", 2, 2, 64, SMALL.tokens)
    possible = [cut for cut in possible_cuts(2, 64, SMALL.tokens) if cut != rule]
    refused, wrong = possible[0], possible[1]

    def picky(*arguments: Any) -> tuple[mx.array, mx.array]:
        if arguments[12] == refused:
            raise RuntimeError("too many registers")
        result, following = plain_step(*arguments)
        return result * (1.1 if arguments[12] == wrong else 1.0), following

    monkeypatch.setattr(fused, "append_and_attend", picky)
    tuned = tune(Clock(), "metal", SMALL, 2)
    assert set(tuned.us) == {rule, *possible[2:]}
    assert tuned.refused[refused] == "too many registers"
    assert tuned.refused[wrong].startswith("relative error")
    assert "too many registers" in report.tuned(tuned)


@pytest.mark.usefixtures("plain_kernels")
def test_a_comparison_by_the_wall_clock_says_so_and_goes_into_json() -> None:
    row = compare(Clock(), SMALL, 2)
    plain = json.loads(json.dumps(row.plain(1000.0)))
    assert plain["attention_us"]["measured"] == "wall clock of a chain, warm"
    assert plain["step_kernels_us"] is None
    assert plain["step_span_bound_by_host"] in (True, False)
    assert plain["by_kernel_us"] == {}
    assert plain["chain_is_cold"] is False
    for pair in (plain["attention_us"], plain["step_span_us"], *plain["host_us"].values()):
        assert 0 < pair["int4"]["p20"] <= pair["int4"]["median"] <= pair["int4"]["p80"]
        assert pair["ratio"] == pytest.approx(pair["bf16"]["median"] / pair["int4"]["median"])
    assert set(plain["host_us"]) == {"build", "evaluate", "until_done"}
    text = report.row(row, 1000.0)
    assert "4,2,64 at 70 tokens, chain of 3 layers (warm)" in text
    assert report.ratios([row]).count("\n") == 2


class KernelClock(Clock):
    """A clock that sees kernels: every chain the same ones, whatever runs."""

    def __init__(self) -> None:
        self.has_kernels = True

    def time(self, run: Callable[[], None]) -> Timing:
        return Timing(300.0, {"x_nibble_attend_y": 60.0, "x_nibble_attend_merge_y": 20.0, "x_nibble_read_y": 500.0})


@pytest.mark.usefixtures("plain_kernels")
def test_a_comparison_by_kernels_leaves_the_flush_out_and_takes_the_read_from_the_first_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kernels.bench.cases.read_over", lambda x, backend: x)
    row = compare(KernelClock(), SMALL, 2)
    assert row.step_kernels_us is not None
    assert row.attention_us.int4.median == pytest.approx(80.0 / 3)
    assert row.step_span_us.int4.median == pytest.approx(100.0)
    assert row.host_bound
    assert row.read_gb_s == pytest.approx(SMALL.int4_bytes / 1e3 / 20.0)
    assert row.by_kernel_us["int4 step"] == pytest.approx({"attend": 20.0, "attend_merge": 20.0 / 3})
    assert "BOUND BY THE HOST" in report.row(row, 1000.0)


@pytest.mark.usefixtures("plain_kernels")
def test_ceilings_are_the_best_grid_and_what_is_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "_COPY_BYTES", 4096)
    monkeypatch.setattr(ceilings, "read_over", lambda x, backend, threadgroups: x)
    found = ceilings.measure(KernelClock(), "metal")
    assert found.read_gb_s == pytest.approx(10 * 2**28 / 580.0 / 1e3)
    assert found.copy_gb_s == pytest.approx(4 * 2 * 4096 / 580.0 / 1e3)


@pytest.mark.usefixtures("plain_kernels")
def test_append_counts_bytes_read_and_written() -> None:
    found = appending.measure(Clock(), "metal", 64, 32, 2, vectors=64)
    assert found.bytes_a_vector == 2 * 64 + 36
    assert found.gb_s == pytest.approx(64 * (2 * 64 + 36) / found.launch_us.median / 1e3)
    assert found.plain(10.0)["share_of_copy_ceiling"] == pytest.approx(found.gb_s / 10.0)


def test_without_a_gpu_the_command_says_so_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch.backend() == "cpu"
    assert command.main([]) == 1
    assert "no GPU" in capsys.readouterr().err


@pytest.mark.usefixtures("plain_kernels")
def test_the_command_checks_then_times_and_ends_in_one_line_of_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    monkeypatch.setattr(command, "SHAPES", ((4, 2, 64), (2, 1, 64)))
    monkeypatch.setattr(check, "checks", lambda backend: check.step(backend, SMALL))
    monkeypatch.setattr(ceilings, "measure", lambda clock, backend: Ceilings(1000.0, 900.0))
    monkeypatch.setattr(appending, "VECTORS", 64)
    monkeypatch.setattr(appending.measure, "__defaults__", (64,))
    out = tmp_path / "bench.json"
    assert command.main(["--lengths", "70", "90", "--rounds", "2", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert found == json.loads(out.read_text())
    assert [(row["query_heads"], row["tokens"]) for row in found["rows"]] == [(4, 70), (2, 70), (4, 90), (2, 90)]
    assert [append["head_dim"] for append in found["append"]] == [64, 128, 256]
    assert found["machine"]["versions"]["mlx"]
    assert "ceilings: read 1,000 GB/s" in "\n".join(lines)
    assert command.main(["--tune", "--shapes", "1", "--lengths", "70", "--rounds", "2"]) == 0
    tuned = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [case["kv_heads"] for case in tuned["cases"]] == [1]


@pytest.mark.usefixtures("plain_kernels")
@pytest.mark.parametrize("options", [["--check"], [], ["--tune"]])
def test_nothing_is_timed_on_wrong_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    monkeypatch.setattr(command, "SHAPES", ((4, 2, 64),))
    monkeypatch.setattr(check, "checks", lambda backend: check.step(backend, SMALL))
    monkeypatch.setattr(fused, "append_and_attend", broken(result=lambda r: r * 1.01))
    assert command.main([*options, "--lengths", "70"]) == 1
    printed = capsys.readouterr()
    assert "FAILED" in printed.out
    assert "a step" not in printed.out
    assert "nothing is timed" in printed.err
