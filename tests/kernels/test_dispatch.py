"""Who carries an operation out: what is engaged and why not, what a trial refuses, bad arguments."""

import re

import mlx.core as mx
import pytest

from kernels import bulk, dispatch, fused, reference
from kernels.codec import Codec
from kernels.cuts import Cut, cut_for, kinds_of_cut
from kernels.rotation import Rotation, RotationKind
from tests.kernels.step_parts import codec_of, relative
from tests.metal_host.fixtures import require_compiler
from tests.trials import forget_trials

require_compiler()


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
@pytest.mark.parametrize("window", [20, 400])
def test_a_ring_is_tried_as_the_kernels_that_it_needs(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    """None is compiled in the middle of a reply, and none that only longer contexts ask for."""
    tried = []
    real = fused.append_and_attend

    def noted(*arguments: object, window: int, cut: Cut) -> object:
        tried.append((window, cut))
        return real(*arguments, window=window, cut=cut)

    monkeypatch.setattr(fused, "append_and_attend", noted)
    queries = mx.zeros((1, 4, 1, 64), mx.bfloat16)
    assert dispatch.reason_against(codec_of(64, 32, 2, True), queries, 2, 512, 10, window=window) == ""
    needed = {cut_for("metal", 2, 2, 64, tokens).kind for tokens in range(1, window + 1)}
    assert {cut for _, cut in tried} == needed < set(kinds_of_cut("metal", 2, 2, 64))
    assert {ring for ring, _ in tried} == {window}


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
@pytest.mark.parametrize("operation", ["step", "attention", "rows"])
def test_a_kernel_that_computes_wrongly_or_not_at_all_is_not_engaged(
    monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    codec = codec_of(64, 32, 2, False)
    module, name = {
        "step": (fused, "append_and_attend"),
        "attention": (fused, "attend"),
        "rows": (bulk, "dequantize"),
    }[operation]
    real = getattr(module, name)

    def reason() -> str:
        forget_trials()
        if operation == "rows":
            return dispatch._bulk_reason(codec, mx.float16, 2)
        queries = mx.zeros((1, 4, 1, 64), mx.float16)
        return dispatch.reason_against(codec, queries, 2, 256, 10, coded=operation == "attention")

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

    def starve(*_: object, **__: object) -> mx.array:
        raise RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (00000008)")

    monkeypatch.setattr(module, name, starve)
    with pytest.raises(RuntimeError, match="Insufficient Memory"):
        reason()
    monkeypatch.setattr(module, name, real)
    assert operation == "rows" or reason() == "", "memory that did not suffice says nothing about the kernel"


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": mx.zeros((1, 3, 1, 64))}, "query heads that 2 key/value heads share evenly, got 3"),
        ({"scales": mx.zeros((2, 1, 2, 256, 2))}, "scales of type"),
        ({"position": mx.zeros((1,), mx.int32)}, "a position"),
        ({"tokens": 257}, "at most 256 rows, got 257"),
    ],
)
def test_attention_alone_names_bad_arguments_too(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "queries": mx.zeros((1, 4, 1, 64)),
        "codes": mx.zeros((2, 1, 2, 256, 8), mx.uint32),
        "scales": mx.zeros((2, 1, 2, 256, 2), mx.float16),
        "position": dispatch.start_position(1),
        "tokens": 1,
        "scale": 0.1,
    }
    with pytest.raises(ValueError, match=r"^\[attend_again\] expected .*" + re.escape(message)):
        dispatch.attend_again(codec_of(64, 32, 2, False), **(arguments | change))
