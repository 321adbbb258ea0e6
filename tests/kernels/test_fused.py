"""The Metal text itself, run on the host, against the reference: the same bodies that the GPUs get."""

import math

import mlx.core as mx
import numpy as np
import pytest

from kernels import dispatch, fused, reference
from kernels.codec import Codec
from kernels.rotation import Rotation, RotationKind
from tests.metal_host.fixtures import require_compiler

require_compiler()
pytestmark = pytest.mark.usefixtures("on_metal_host")

MOST_DIFFERING_CODES = 1e-4


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


@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 192, 256])
@pytest.mark.parametrize(("group_size", "calibrated"), [(32, False), (64, True)])
def test_append_gives_the_references_codes(head_dim: int, group_size: int, calibrated: bool) -> None:
    codec = codec_of(head_dim, group_size, 2, calibrated)
    keys, values = mx.random.normal((2, 1, 2, 5, head_dim), key=mx.random.key(1)).astype(mx.bfloat16)
    queries = mx.random.normal((1, 6, 5, head_dim), key=mx.random.key(2)).astype(mx.bfloat16)
    right_codes, right_scales = reference.quantize(codec, mx.stack([keys, values]))
    codes, scales, rotated, factors = fused.quantize_and_rotate(codec, "metal", queries, keys, values, 0.1)
    alone = fused.quantize(codec, "metal", keys, values)
    assert mx.array_equal(codes, alone[0])
    assert mx.array_equal(scales, alone[1])
    assert (nibbles(codes) != nibbles(right_codes)).mean() <= MOST_DIFFERING_CODES
    assert relative(scales, right_scales) < 1e-4
    right = codec.rotation.apply(queries).reshape(1, 2, 3, 5, head_dim) * 0.1 * math.log2(math.e)
    if codec.lam is not None:
        right = right / codec.lam[0][None, :, None, None, :]
    assert relative(rotated * factors[..., None], right.reshape(rotated.shape)) < 1e-6
    assert float(mx.abs(rotated).max()) == pytest.approx(1.0)


@pytest.mark.parametrize("head_dim", [64, 80, 128, 192])
@pytest.mark.parametrize("calibrated", [False, True])
def test_dequantize_gives_the_references_rows(head_dim: int, calibrated: bool) -> None:
    codec = codec_of(head_dim, 32, 2, calibrated)
    rows = mx.random.normal((2, 1, 2, 7, head_dim), key=mx.random.key(3))
    codes, scales = reference.quantize(codec, rows)
    right = mx.stack(list(reference.dequantize(codec, codes, scales, mx.float32)))
    assert relative(fused.dequantize(codec, "metal", codes, scales, mx.float32), right) < 2e-6


@pytest.mark.parametrize(("hq", "hk", "head_dim"), [(12, 2, 128), (4, 1, 256), (32, 8, 64), (8, 8, 128), (14, 2, 64)])
@pytest.mark.parametrize(("group_size", "calibrated"), [(32, False), (32, True), (64, True)])
@pytest.mark.parametrize("tokens", [1, 43, 127, 700])
def test_attention_equals_the_reference_on_the_same_bytes(
    hq: int, hk: int, head_dim: int, group_size: int, calibrated: bool, tokens: int
) -> None:
    """Rows after the tokens hold large codes and NaN scales: none may be seen."""
    codec = codec_of(head_dim, group_size, hk, calibrated)
    rows = mx.random.normal((2, 1, hk, 1024, head_dim), key=mx.random.key(4)).astype(mx.bfloat16)
    codes, scales = reference.quantize(codec, rows)
    queries = mx.random.normal((1, hq, 1, head_dim), key=mx.random.key(5)).astype(mx.bfloat16)
    stale = (mx.arange(1024) >= tokens)[:, None]
    poisoned = (
        mx.where(stale, mx.array(0xF0F0F0F0, mx.uint32), codes),
        mx.where(stale, mx.array(float("nan"), mx.float16), scales),
    )
    _, _, rotated, factors = fused.quantize_and_rotate(
        codec, "metal", queries, rows[0, :, :, :1], rows[1, :, :, :1], head_dim**-0.5
    )
    got = fused.attend(codec, "metal", rotated, factors, *poisoned, tokens, mx.float32)
    seen = (codes[..., :tokens, :], scales[..., :tokens, :])
    right = reference.attend(codec, queries.astype(mx.float32), *seen, head_dim**-0.5, None)
    assert relative(got, right) < 2e-3


def test_a_poisoned_token_is_seen_in_the_result() -> None:
    codec = codec_of(64, 32, 1, False)
    rows = mx.random.normal((2, 1, 1, 256, 64), key=mx.random.key(6))
    rows[0, 0, 0, 40, 3] = float("nan")
    codes, scales = fused.quantize(codec, "metal", rows[0], rows[1])
    assert np.isnan(np.array(scales)[0, 0, 0, 40]).all()
    queries = mx.random.normal((1, 2, 1, 64), key=mx.random.key(7))
    _, _, rotated, factors = fused.quantize_and_rotate(codec, "metal", queries, *(r[:, :, :1] for r in rows), 0.1)
    assert mx.isnan(fused.attend(codec, "metal", rotated, factors, codes, scales, 100, mx.float32)).all()
    assert not mx.isnan(fused.attend(codec, "metal", rotated, factors, codes, scales, 40, mx.float32)).any()


def test_a_decode_step_reads_the_cache_once(on_metal_host) -> None:
    """Bytes loaded, counted by the emulator: every set of query heads reads the codes once, and a tile ahead."""
    if on_metal_host.build != "checked":
        pytest.skip("bytes are counted in the checked build")
    codec = codec_of(128, 32, 2, False)
    codes, scales = reference.quantize(codec, mx.random.normal((2, 1, 2, 4096, 128), key=mx.random.key(8)))
    rotated, factors = mx.random.uniform(-1, 1, (1, 4, 1, 128)), mx.ones((1, 4, 1))
    fused.attend(codec, "metal", rotated, factors, codes, scales, 4096, mx.float32)
    split = next(launch for launch in on_metal_host.launches if "split" in launch.kernel)
    cut = fused.split_for(4, 2, 128, 4096)
    assert split.traffic["codes"].touched == codes.nbytes
    prefetched = cut.sets * cut.blocks * 4 * cut.tile * 2 * codec.layout.row_bytes * 2
    assert split.traffic["codes"].read <= cut.sets * codes.nbytes + prefetched


@pytest.mark.parametrize(
    ("hq", "hk", "head_dim"), [(12, 2, 128), (8, 1, 256), (4, 1, 256), (64, 8, 128), (32, 8, 64), (28, 4, 128)]
)
def test_every_cut_fits_an_apple_gpu_and_computes_the_same(on_metal_host, hq: int, hk: int, head_dim: int) -> None:
    codec = codec_of(head_dim, 32, hk, False)
    codes, scales = reference.quantize(codec, mx.random.normal((2, 1, hk, 512, head_dim), key=mx.random.key(9)))
    rotated = mx.random.uniform(-1, 1, (1, hq, 1, head_dim), key=mx.random.key(10))
    factors = mx.ones((1, hq, 1))
    splits = fused.splits_for(hq, hk, head_dim)
    assert len(splits) > 1
    results = [fused.attend(codec, "metal", rotated, factors, codes, scales, 300, mx.float32, s) for s in splits]
    for result in results[1:]:
        assert relative(result, results[0]) < 2e-3
    assert max(launch.threadgroup_bytes for launch in on_metal_host.launches) <= 32768


def test_no_cut_is_too_large_for_a_threadgroup() -> None:
    for heads in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16):
        for head_dim in fused.HEAD_SIZES:
            for split in fused.splits_for(heads * 4, 4, head_dim):
                assert fused._split_bytes(heads // split.sets, head_dim, split.tile) <= 32768


@pytest.fixture
def metal_dispatch(monkeypatch: pytest.MonkeyPatch):
    """Let dispatch believe in a Metal GPU; the emulator answers."""
    monkeypatch.setattr(dispatch, "backend", lambda: "metal")
    dispatch._trial.cache_clear()
    yield
    dispatch._trial.cache_clear()


@pytest.mark.usefixtures("metal_dispatch")
def test_dispatch_engages_what_it_has_tried() -> None:
    codec = codec_of(64, 32, 2, True)
    queries = mx.zeros((1, 4, 1, 64), mx.bfloat16)
    assert dispatch.reason_against(codec, queries, 2, 256) == ""
    assert dispatch.reason_against(codec, mx.zeros((1, 4, 2, 64)), 2, 256) == "more than one new token"
    assert "256 rows" not in dispatch.reason_against(codec, queries, 2, 256)
    assert "40 rows" in dispatch.reason_against(codec, queries, 2, 40)
    srht = Codec(Rotation(RotationKind.SRHT, 64, 0), 32)
    assert "srht" in dispatch.reason_against(srht, queries, 2, 256)
    assert "head size 80" in dispatch.reason_against(codec_of(80, 32, 2, False), mx.zeros((1, 4, 1, 80)), 2, 256)


@pytest.mark.usefixtures("metal_dispatch")
def test_a_kernel_that_computes_wrongly_or_not_at_all_is_not_engaged(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = codec_of(64, 32, 2, False)
    queries = mx.zeros((1, 4, 1, 64), mx.float16)
    real = fused.attend
    for factor in (1.05, float("nan")):
        dispatch._trial.cache_clear()
        monkeypatch.setattr(fused, "attend", lambda *a, factor=factor: real(*a) * factor)
        assert dispatch.reason_against(codec, queries, 2, 256) == "the fused kernel computes wrongly on this GPU"

    def refuse(*_: object) -> mx.array:
        raise RuntimeError("the compiler says no")

    dispatch._trial.cache_clear()
    monkeypatch.setattr(fused, "attend", refuse)
    assert dispatch.reason_against(codec, queries, 2, 256) == "the fused kernel does not run on this GPU"
