"""The decode step's Metal text itself, run on the host, against the reference: the same bodies that the GPUs get."""

import re
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels import bulk, dispatch, fused, reference
from kernels.bench.check import SCALE_ULP
from kernels.codec import Codec
from kernels.cuts import TILE, Cut, cut_for, fits, kinds_of_cut
from kernels.lanes import HEAD_SIZES
from kernels.rotation import Rotation, RotationKind
from tests.metal_host.fixtures import require_compiler
from tests.trials import forget_trials

require_compiler()

MOST_DIFFERING_CODES = 1e-4
MOST_RELATIVE_ERROR = 2.5e-3
"""Of a bfloat16 result; its own rounding is 1.7e-3 of that."""


def codec_of(head_dim: int, group_size: int, heads: int, calibrated: bool) -> Codec:
    rng = np.random.default_rng(head_dim)
    mu = mx.array(rng.normal(0, 1, (2, heads, head_dim)), mx.float32) if calibrated else None
    lam = mx.array(rng.uniform(0.5, 2, (2, heads, head_dim)), mx.float32) if calibrated else None
    return Codec(Rotation(RotationKind.SRFT, head_dim, 3), group_size, mu, lam)


def nibbles(codes: mx.array) -> np.ndarray:
    return (np.array(codes)[..., None] >> np.arange(0, 32, 4, dtype=np.uint32)) & 15


def relative(got: mx.array, right: mx.array) -> float:
    got, right = got.astype(mx.float32), right.astype(mx.float32)
    return float(mx.linalg.norm(got - right) / mx.linalg.norm(right))


class Step:
    """A decode step of random rows: buffers whose rows after the old tokens hold large codes and NaN scales."""

    def __init__(
        self,
        heads: tuple[int, int, int],
        before: int,
        new: int = 1,
        *,
        group_size: int = 32,
        calibrated: bool = False,
        capacity: int = 1024,
        window: int = 0,
        dtype: mx.Dtype = mx.bfloat16,
    ) -> None:
        self.query_heads, self.kv_heads, D = heads
        self.before, self.new, self.window = before, new, window
        self.codec = codec_of(D, group_size, self.kv_heads, calibrated)
        self.scale = D**-0.5
        rows = mx.random.normal((2, 1, self.kv_heads, before + new, D), key=mx.random.key(4)).astype(dtype)
        self.queries = mx.random.normal((1, self.query_heads, new, D), key=mx.random.key(5)).astype(dtype)
        self.keys, self.values = rows[0, :, :, before:], rows[1, :, :, before:]
        self.all_codes, self.all_scales = reference.quantize(self.codec, rows)
        layout = self.codec.layout
        self.codes = mx.full((2, 1, self.kv_heads, capacity, layout.words), 0xF0F0F0F0, mx.uint32)
        self.scales = mx.full((2, 1, self.kv_heads, capacity, layout.groups), float("nan"), mx.float16)
        ring = window or capacity
        for at in range(max(0, before - ring), before):
            self.codes[..., at % ring, :] = self.all_codes[..., at, :]
            self.scales[..., at % ring, :] = self.all_scales[..., at, :]
        mx.eval(self.codes, self.scales)

    def run(self, mask: mx.array | str | None = None, cut: Cut | None = None) -> mx.array:
        result, position = fused.append_and_attend(
            self.codec,
            "metal",
            self.queries,
            self.keys,
            self.values,
            self.codes,
            self.scales,
            dispatch.start_position(self.before),
            self.before + self.new,
            self.scale,
            mask,
            self.window,
            cut,
        )
        assert position[0].item() == self.before + self.new
        return result

    def right(self, mask: mx.array | str | None = None) -> mx.array:
        """The reference, in float32, on the tokens that a ring still holds."""
        first = max(0, self.before + self.new - self.window) if self.window else 0
        coded = (self.all_codes[..., first:, :], self.all_scales[..., first:, :])
        mask = "causal" if mask is None and self.new > 1 else mask
        return reference.attend(self.codec, self.queries.astype(mx.float32), *coded, self.scale, mask)

    def check_written(self) -> None:
        """The new rows hold the reference's codes, and no other row has changed."""
        ring = self.window or self.codes.shape[3]
        rows = [(self.before + i) % ring for i in range(self.new)]
        got = nibbles(self.codes[..., mx.array(rows), :])
        assert (got != nibbles(self.all_codes[..., self.before :, :])).mean() <= MOST_DIFFERING_CODES
        scales, right = self.scales[..., mx.array(rows), :], self.all_scales[..., self.before :, :]
        ratios = np.array(scales, np.float32) / np.array(right, np.float32)
        # On the edge between two float16 a scale may fall to either.
        assert np.abs(ratios - 1).max() <= SCALE_ULP
        assert (ratios != 1).sum() <= 1 + 0.01 * ratios.size


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("heads", [(12, 2, 128), (4, 1, 256), (32, 8, 64), (8, 8, 128), (14, 2, 64)])
@pytest.mark.parametrize(("group_size", "calibrated"), [(32, False), (64, True)])
@pytest.mark.parametrize("before", [0, 255, 700])
def test_a_step_equals_the_reference(
    heads: tuple[int, int, int], group_size: int, calibrated: bool, before: int
) -> None:
    step = Step(heads, before, group_size=group_size, calibrated=calibrated)
    assert relative(step.run(), step.right()) < MOST_RELATIVE_ERROR
    step.check_written()


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("heads", [(6, 2, 80), (4, 4, 96), (4, 2, 192)])
@pytest.mark.parametrize(("group_size", "calibrated"), [(32, False), (64, True)])
@pytest.mark.parametrize(("before", "new"), [(0, 1), (700, 1), (75, 2)])
def test_rows_that_are_no_power_of_two(
    heads: tuple[int, int, int], group_size: int, calibrated: bool, before: int, new: int
) -> None:
    """Lanes have 3 or 5 numbers of them, and the last unit of 64 values is filled up with nothing."""
    step = Step(heads, before, new, group_size=group_size, calibrated=calibrated)
    assert relative(step.run(), step.right()) < MOST_RELATIVE_ERROR
    step.check_written()


@pytest.mark.usefixtures("on_metal_host")
def test_rows_lie_as_they_like() -> None:
    """Also with a last axis that is not dense."""
    step = Step((4, 2, 128), 40, 2, capacity=64)
    right = step.right()
    for name in ("queries", "keys", "values"):
        turned = mx.contiguous(getattr(step, name).swapaxes(1, 3))
        mx.eval(turned)
        setattr(step, name, turned.swapaxes(1, 3))
    assert relative(step.run(), right) < MOST_RELATIVE_ERROR
    step.check_written()


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("where", [3, 79])
def test_a_row_that_cannot_be_coded_is_nan_in_every_group(where: int) -> None:
    """Also in a last group that is filled up."""
    step = Step((4, 2, 80), 40, capacity=64)
    step.keys[0, 0, 0, where] = float("nan")
    result = step.run()
    assert mx.isnan(step.scales[0, 0, 0, 40]).all().item()
    assert mx.isnan(result[0, :2]).all().item()
    assert mx.isfinite(result[0, 2:]).all().item()


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("new", [2, 3, 8])
@pytest.mark.parametrize(("heads", "before"), [((12, 2, 128), 300), ((4, 1, 256), 31), ((4, 2, 64), 0)])
def test_several_new_tokens_are_causal_among_themselves(heads: tuple[int, int, int], before: int, new: int) -> None:
    step = Step(heads, before, new, calibrated=True)
    assert relative(step.run("causal"), step.right()) < MOST_RELATIVE_ERROR
    step.check_written()


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("before", [20, 96, 97, 250])
def test_a_ring_forgets_its_oldest_token(before: int) -> None:
    step = Step((4, 2, 64), before, capacity=96, window=96)
    assert relative(step.run(), step.right()) < MOST_RELATIVE_ERROR
    step.check_written()


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("new", [1, 4])
def test_a_mask_hides_rows(new: int) -> None:
    step = Step((4, 2, 64), 300, new)
    rows = mx.arange(300 + new)
    mask = (rows[None] <= 300 + mx.arange(new)[:, None]) & (rows % 3 != 1)
    assert relative(step.run(mask[None, None]), step.right(mask)) < MOST_RELATIVE_ERROR
    step.check_written()


@pytest.mark.usefixtures("on_metal_host")
def test_rows_as_a_model_leaves_them_need_no_copy() -> None:
    """Models transpose `[B, L, H, D]`: the kernel reads by strides."""
    step = Step((6, 2, 64), 50, 3)
    right = step.right()
    for name in ("queries", "keys", "values"):
        by_token = mx.contiguous(getattr(step, name).swapaxes(1, 2))
        mx.eval(by_token)
        setattr(step, name, by_token.swapaxes(1, 2))
    assert relative(step.run(), right) < MOST_RELATIVE_ERROR
    step.check_written()


def test_the_order_of_threads_does_not_show(on_metal_host) -> None:
    """The row that a step writes may be read, old or new, by tiles that reach it: it must count for nothing."""
    results = []
    for schedule in range(4):
        on_metal_host.schedule = schedule
        step = Step((12, 2, 128), 300)
        results.append(np.array(step.run(cut=Cut(3, 4, 6)).astype(mx.float32)))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("what", ["queries", "keys", "values", "an old row"])
def test_a_nan_is_seen_in_the_result(what: str) -> None:
    step = Step((4, 2, 64), 100)
    if what == "an old row":
        step.scales[..., 40, :] = float("nan")
        mx.eval(step.scales)
    else:
        poisoned = getattr(step, what)
        poisoned[0, :, 0, 5] = float("nan")
        setattr(step, what, poisoned)
    assert mx.isnan(step.run()).all()
    if what in ("keys", "values"):
        assert np.isnan(np.array(step.scales)[int(what == "values"), 0, :, 100]).all()


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("heads", [(12, 2, 128), (4, 1, 256), (32, 8, 64)])
def test_the_error_in_float16_is_at_most_twice_its_rounding(heads: tuple[int, int, int]) -> None:
    step = Step(heads, 700, dtype=mx.float16)
    right = step.right()
    assert relative(step.run(), right) < 2 * relative(right.astype(mx.float16), right)


def test_a_step_reads_the_cache_once(on_metal_host) -> None:
    """Bytes loaded, counted by the emulator: every set of query heads reads the codes once, and a tile ahead."""
    if on_metal_host.build != "checked":
        pytest.skip("bytes are counted in the checked build")
    step = Step((4, 2, 128), 4095, capacity=4096)
    step.run()
    cut = cut_for("metal", 2, 2, 128, 4096)
    first = next(launch for launch in on_metal_host.launches if "merge" not in launch.kernel)
    assert first.traffic["codes"].touched == step.codes.nbytes
    assert first.traffic["codes"].written == 2 * 2 * step.codec.layout.words * 4
    # Of each kv head's keys and values every SIMD-group loads a tile ahead, and that of the new token one more.
    prefetched = cut.sets * (cut.blocks * cut.simds + 1) * TILE * 2 * step.codec.layout.words * 4 * 2
    assert first.traffic["codes"].read <= cut.sets * step.codes.nbytes + prefetched


@pytest.mark.parametrize(
    "heads",
    [(12, 2, 128), (8, 1, 256), (4, 1, 256), (64, 8, 128), (32, 8, 64), (28, 4, 128), (32, 32, 96), (8, 1, 192)],
)
def test_every_kind_of_cut_fits_an_apple_gpu_and_computes_the_same(on_metal_host, heads: tuple[int, int, int]) -> None:
    query_heads, kv_heads, head_dim = heads
    kinds = kinds_of_cut("metal", query_heads // kv_heads, kv_heads, head_dim)
    assert len(kinds) > 1
    results = [Step(heads, 299, capacity=512).run(cut=kind) for kind in kinds]
    for result in results[1:]:
        assert relative(result, results[0]) < MOST_RELATIVE_ERROR
    assert max(launch.threadgroup_bytes for launch in on_metal_host.launches) <= 32768


@pytest.mark.parametrize("backend", ["cuda", "metal"])
def test_every_length_has_a_cut_that_fits_and_was_tried(backend: str) -> None:
    for heads in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16):
        for kv_heads in (1, 2, 8, 32):
            for head_dim in HEAD_SIZES:
                kinds = set(kinds_of_cut(backend, heads, kv_heads, head_dim))
                for tokens in (1, 77, 256, 257, 1000, 3001, 8192, 20000, 65536, 1_000_000):
                    cut = cut_for(backend, heads, kv_heads, head_dim, tokens)
                    assert fits(cut, heads, head_dim)
                    assert cut.kind in kinds


@pytest.fixture
def metal_dispatch(monkeypatch: pytest.MonkeyPatch):
    """Let dispatch believe in a Metal GPU; the emulator answers."""
    monkeypatch.setattr(dispatch, "backend", lambda: "metal")
    forget_trials()
    yield
    forget_trials()


@pytest.mark.usefixtures("on_metal_host", "metal_dispatch")
def test_dispatch_engages_what_it_has_tried() -> None:
    codec = codec_of(64, 32, 2, True)
    queries = mx.zeros((1, 4, 1, 64), mx.bfloat16)
    several = mx.zeros((1, 4, 2, 64), mx.bfloat16)
    assert dispatch.reason_against(codec, queries, 2, 256, 10) == ""
    assert dispatch.reason_against(codec, several, 2, 256, 10, "causal") == ""
    assert dispatch.reason_against(codec, queries, 2, 256, 10, mx.ones((1, 1, 1, 10), mx.bool_)) == ""
    assert dispatch.reason_against(codec, queries, 2, 256, 10, window=256) == ""
    assert "sliding window" in dispatch.reason_against(codec, several, 2, 256, 10, window=256)
    assert "9 " not in dispatch.reason_against(codec, mx.zeros((1, 4, 8, 64), mx.bfloat16), 2, 256, 10)
    assert "8 new tokens" in dispatch.reason_against(codec, mx.zeros((1, 4, 9, 64), mx.bfloat16), 2, 256, 10)
    assert "40 rows" in dispatch.reason_against(codec, queries, 2, 40, 10)
    assert "rows in 2 heads" in dispatch.reason_against(codec, queries, 2, 2**27, 10)
    assert "numbers" in dispatch.reason_against(codec, queries, 2, 256, 10, mx.zeros((1, 10)))
    assert "apart" in dispatch.reason_against(codec, queries, 2, 256, 10, mx.ones((1, 4, 1, 10), mx.bool_))
    srht = Codec(Rotation(RotationKind.SRHT, 64, 0), 32)
    assert "srht" in dispatch.reason_against(srht, queries, 2, 256, 10)
    size_112 = codec_of(112, 32, 2, False)
    assert "head size 112" in dispatch.reason_against(size_112, mx.zeros((1, 4, 1, 112)), 2, 256, 10)
    assert "float32" in dispatch.reason_against(codec, mx.zeros((1, 4, 1, 64)), 2, 256, 10)


@pytest.mark.usefixtures("on_metal_host", "metal_dispatch")
def test_rows_are_coded_and_expanded_by_kernels() -> None:
    codec = codec_of(80, 32, 2, False)
    keys, values = mx.random.normal((2, 1, 2, 9, 80), key=mx.random.key(6)).astype(mx.bfloat16)
    before = dispatch.engagements.copy()
    coded = dispatch.quantize(codec, keys, values)
    expanded = dispatch.dequantize(codec, *coded, mx.float32)
    assert (dispatch.engagements - before) == {"quantize/fused": 1, "dequantize/fused": 1}
    right = reference.dequantize(codec, *reference.quantize(codec, mx.stack([keys, values])), mx.float32)
    assert relative(mx.stack(list(expanded)), mx.stack(list(right))) < 1e-3


@pytest.mark.usefixtures("on_metal_host", "metal_dispatch")
@pytest.mark.parametrize("head_dim", [80, 128])
def test_exact_rows_follow_the_expanded_ones(head_dim: int) -> None:
    codec = codec_of(head_dim, 32, 2, True)
    rows = mx.random.normal((2, 1, 2, 50, head_dim), key=mx.random.key(6)).astype(mx.bfloat16)
    coded = reference.quantize(codec, rows[..., :37, :])
    before = dispatch.engagements.copy()
    keys, values = dispatch.dequantize_before(codec, *coded, *rows[..., 37:, :])
    assert (dispatch.engagements - before) == {"dequantize/fused": 1}
    right = reference.dequantize(codec, *coded, mx.float32)
    for got, exact, approximate in zip((keys, values), rows, right, strict=True):
        assert mx.array_equal(got[..., 37:, :], exact[..., 37:, :])
        assert relative(got[..., :37, :], approximate) < 3e-3


@pytest.mark.usefixtures("on_metal_host", "metal_dispatch")
@pytest.mark.parametrize("operation", ["step", "rows"])
def test_a_kernel_that_computes_wrongly_or_not_at_all_is_not_engaged(
    monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    codec = codec_of(64, 32, 2, False)
    module, name = (fused, "append_and_attend") if operation == "step" else (bulk, "dequantize")
    real = getattr(module, name)

    def reason() -> str:
        forget_trials()
        if operation == "rows":
            return dispatch._bulk_reason(codec, mx.float16, 2)
        return dispatch.reason_against(codec, mx.zeros((1, 4, 1, 64), mx.float16), 2, 256, 10)

    assert reason() == ""
    for factor in (1.05, float("nan")):

        def wrong(*arguments: object, factor: float = factor, **named: object) -> object:
            made = real(*arguments, **named)
            return made * factor if operation == "rows" else (made[0] * factor, made[1])

        monkeypatch.setattr(module, name, wrong)
        assert reason() == "the fused kernel computes wrongly on this GPU"

    def refuse(*_: object, **__: object) -> mx.array:
        raise RuntimeError("the compiler says no")

    monkeypatch.setattr(module, name, refuse)
    assert reason() == "the fused kernel does not run on this GPU"


@pytest.mark.usefixtures("on_metal_host", "metal_dispatch")
def test_a_kernel_that_writes_wrong_codes_is_not_engaged(monkeypatch: pytest.MonkeyPatch) -> None:
    real = fused.append_and_attend

    def elsewhere(codec: Codec, where: str, *arguments: mx.array, **named: object) -> object:
        *rest, codes, scales, position, tokens, scale = arguments
        other = (codes + mx.zeros_like(codes), scales + mx.zeros_like(scales))
        mx.eval(other)
        return real(codec, where, *rest, *other, position, tokens, scale, **named)

    monkeypatch.setattr(fused, "append_and_attend", elsewhere)
    queries = mx.zeros((1, 4, 1, 64), mx.float16)
    reason = dispatch.reason_against(codec_of(64, 32, 2, False), queries, 2, 256, 10)
    assert reason == "the fused kernel computes wrongly on this GPU"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": mx.zeros((1, 2, 1, 32))}, "keys [B, Hk, L, 64], got (1, 2, 1, 32)"),
        ({"values": mx.zeros((1, 2, 2, 64))}, "values of the keys' shape (1, 2, 1, 64), got (1, 2, 2, 64)"),
        ({"values": mx.zeros((1, 2, 1, 64), mx.float16)}, "values of the keys' type"),
        ({"queries": mx.zeros((1, 3, 1, 64))}, "query heads that 2 key/value heads share evenly, got 3"),
        ({"queries": mx.zeros((1, 4, 2, 64))}, "queries of as many tokens as keys"),
        ({"queries": mx.zeros((1, 4, 1, 64), mx.float16)}, "keys of the queries' type"),
        ({"codes": mx.zeros((2, 1, 2, 256, 8), mx.int32)}, "codes [2, B, Hk, S, 8] uint32, got"),
        ({"scales": mx.zeros((2, 1, 2, 256, 2))}, "scales of type"),
        ({"scales": mx.zeros((2, 1, 2, 128, 2), mx.float16)}, "scales of shape"),
        ({"position": mx.zeros((1,), mx.int32)}, "a position"),
        ({"tokens": 257}, "at most 256 rows, got 257"),
    ],
)
def test_bad_arguments_are_named_before_any_launch(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "queries": mx.zeros((1, 4, 1, 64)),
        "keys": mx.zeros((1, 2, 1, 64)),
        "values": mx.zeros((1, 2, 1, 64)),
        "codes": mx.zeros((2, 1, 2, 256, 8), mx.uint32),
        "scales": mx.zeros((2, 1, 2, 256, 2), mx.float16),
        "position": dispatch.start_position(0),
        "tokens": 1,
        "scale": 0.1,
    }
    before = dispatch.engagements.total()
    with pytest.raises(ValueError, match=r"^\[append_and_attend\] expected .*" + re.escape(message)):
        dispatch.append_and_attend(codec_of(64, 32, 2, False), **(arguments | change))
    assert dispatch.engagements.total() == before


@pytest.mark.usefixtures("on_metal_host")
def test_a_ring_is_cut_for_the_rows_that_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tokens came: a cut for all of them would have many blocks without a row."""
    asked = []

    def cut_for_rows(*shape: Any) -> Cut:
        asked.append(shape[-1])
        return cut_for(*shape)

    monkeypatch.setattr(fused, "cut_for", cut_for_rows)
    step = Step((4, 2, 64), 5000, capacity=256, window=256)
    assert relative(step.run(), step.right()) < MOST_RELATIVE_ERROR
    assert asked == [256]


def test_a_cut_stands_for_all_that_run_the_same_kernels() -> None:
    cut = Cut(2, 4, 17)
    assert cut.kind == replace(cut, blocks=25).kind
    assert cut.kind != replace(cut, blocks=64).kind
    assert Cut(4, 9, 1).kind == Cut(4, 9, 1)
