"""The decode step's Metal text itself, run on the host, against the reference: the same bodies that the GPUs get."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels import fused
from kernels.cuts import APPLE_THREADS, THREADGROUP_BYTES, TILE, Cut, cut_for, fits, kinds_of_cut, possible_cuts
from kernels.lanes import HEAD_SIZES
from tests.kernels.step_parts import MOST_RELATIVE_ERROR, Step, relative
from tests.metal_host.fixtures import require_compiler

require_compiler()


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
@pytest.mark.parametrize(
    ("heads", "before", "window", "new"),
    [
        *(
            (heads, before, 0, new)
            for heads, before in [((12, 2, 128), 300), ((4, 1, 256), 700), ((4, 2, 80), 40), ((4, 2, 64), 0)]
            for new in (1, 3)
        ),
        ((4, 2, 64), 250, 96, 1),
    ],
)
def test_attention_alone_sees_what_a_step_has_left(
    heads: tuple[int, int, int], before: int, window: int, new: int
) -> None:
    step = Step(heads, before, new, calibrated=True, capacity=window or 1024, window=window)
    step.run("causal" if new > 1 else None)
    codes, scales = np.array(step.codes), np.array(step.scales)
    tokens = before + new
    rows = min(tokens, window) if window else tokens
    sets = cut_for("metal", heads[0] // heads[1] * new, heads[1], heads[2], rows).sets
    every_tile = Cut(
        sets, 4, max(2, -(-rows // 64))
    )  # no SIMD-group more than there are tiles: none is left for new tokens
    for cut in (None, every_tile):
        assert relative(step.run_again("causal" if new > 1 else None, cut), step.right()) < MOST_RELATIVE_ERROR
    np.testing.assert_array_equal(np.array(step.codes), codes)
    np.testing.assert_array_equal(np.array(step.scales), scales)


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("new", [1, 4])
def test_a_mask_hides_rows(new: int) -> None:
    step = Step((4, 2, 64), 300, new)
    rows = mx.arange(300 + new)
    mask = (rows[None] <= 300 + mx.arange(new)[:, None]) & (rows % 3 != 1)
    assert relative(step.run(mask[None, None]), step.right(mask)) < MOST_RELATIVE_ERROR
    step.check_written()
    assert relative(step.run_again(mask[None, None]), step.right(mask)) < MOST_RELATIVE_ERROR


@pytest.mark.usefixtures("on_metal_host")
def test_rows_may_lie_as_a_model_leaves_them() -> None:
    """Models transpose `[B, L, H, D]`: of several tokens MLX makes row-contiguous copies first."""
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
@pytest.mark.parametrize(("backend", "most_threads"), [("metal", APPLE_THREADS), ("cuda", 640)])
def test_every_kind_of_cut_fits_its_gpu_and_computes_the_same(
    on_metal_host, heads: tuple[int, int, int], backend: str, most_threads: int
) -> None:
    query_heads, kv_heads, head_dim = heads
    kinds = kinds_of_cut(backend, query_heads // kv_heads, kv_heads, head_dim)
    assert len(kinds) > 1
    results = [Step(heads, 299, capacity=512).run(cut=kind) for kind in kinds]
    for result in results[1:]:
        assert relative(result, results[0]) < MOST_RELATIVE_ERROR
    assert max(launch.threadgroup_bytes for launch in on_metal_host.launches) <= THREADGROUP_BYTES
    assert max(launch.threads for launch in on_metal_host.launches) <= most_threads


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


@pytest.mark.parametrize("backend", ["cuda", "metal"])
@pytest.mark.parametrize(("head_dim", "sharers"), [(256, 2), (192, 1), (128, 1)])
def test_long_rows_are_shared_while_each_pair_has_a_tile(backend: str, head_dim: int, sharers: int) -> None:
    at = {tokens: cut_for(backend, 4, 1, head_dim, tokens) for tokens in (128, 256, 1024, 16384)}
    assert at[128].whole
    assert at[1024].sharers == sharers
    assert at[1024].single
    assert at[16384].sharers == 1
    if sharers == 2:
        assert at[256].sharers == 2  # in two launches: in one a SIMD-group would have two tiles
        assert all(cut.tiles * cut.blocks > -(-tokens // TILE) for tokens, cut in at.items() if cut.sharers == 2)
    tried = [cut for cut in possible_cuts(4, head_dim, 1024) if cut.sharers == 2]
    assert (at[1024] in tried) == (sharers == 2)
    assert all(cut.single for cut in tried)


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("new", [1, 3])
def test_those_who_share_a_tile_compute_what_one_does(new: int) -> None:
    heads = (4, 1, 256)
    mask = "causal" if new > 1 else None
    cuts = [Cut(4 if new == 1 else 3, 4, 9, single=True, sharers=sharers) for sharers in (2, 1)]
    steps = [Step(heads, 250, new, calibrated=True) for _ in cuts]
    shared, alone = (step.run(mask, cut) for step, cut in zip(steps, cuts, strict=True))
    assert relative(shared, alone) < MOST_RELATIVE_ERROR
    np.testing.assert_array_equal(np.array(steps[0].codes), np.array(steps[1].codes))
    np.testing.assert_array_equal(np.array(steps[0].scales), np.array(steps[1].scales))
    assert relative(steps[0].run_again(mask, cuts[0]), steps[0].right()) < MOST_RELATIVE_ERROR


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


@pytest.mark.usefixtures("on_metal_host")
@pytest.mark.parametrize("heads", [(4, 2, 64), (12, 2, 128), (4, 1, 256)])
def test_a_cut_of_one_tile_each_computes_what_one_of_more_does(heads: tuple[int, int, int]) -> None:
    """At 176 tokens the 12 SIMD-groups have a tile each, the new token's included; one token more, and one has two."""
    cut = Cut(1, 4, 3)
    for tokens, single in ((176, True), (177, False)):
        assert cut.at(tokens).single == single
        for tried in {cut, cut.at(tokens)}:
            step = Step(heads, tokens - 1, calibrated=True)
            assert relative(step.run(cut=tried), step.right()) < MOST_RELATIVE_ERROR
            step.check_written()


def test_a_step_in_one_launch_has_one_kernel_for_all_lengths() -> None:
    assert not Cut(1, 9, 1).at(16).single


def test_a_cut_stands_for_all_that_run_the_same_kernels() -> None:
    cut = Cut(2, 4, 17)
    assert cut.kind == replace(cut, blocks=25).kind
    assert cut.kind != replace(cut, blocks=64).kind
    assert cut.kind != replace(cut, single=True).kind
    assert Cut(4, 9, 1).kind == Cut(4, 9, 1)
