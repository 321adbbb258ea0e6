"""The table of architectures in docs/models.md is what trying them gives, and trying them finds defects."""

from unittest import mock

import mlx.core as mx
import pytest

from app.engine.int4_handle import Int4Handle
from kernels import dispatch
from tests.architecture_trial import Trial, architectures, module_names, try_architecture
from tests.support_matrix import DOCUMENT, check, row, section, written

FEW_STEPS = 8


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_table_is_what_every_architecture_gives() -> None:
    trials = []
    for name in architectures():
        trials.append(try_architecture(name, FEW_STEPS))
        check(trials[-1])
        mx.clear_cache()
    document = written(DOCUMENT.read_text(encoding="utf-8"))
    if mx.metal.is_available():  # where it was written, what needs Metal was not run
        there = document.splitlines()
        assert [
            row(t) for t in trials if row(t) not in there and f"| `{t.architecture}` | not run |" not in document
        ] == []
    else:
        assert section(trials) == document
    ordinary = [trial for trial in trials if trial.ordinary]
    assert sum(trial.int4_layers > 0 for trial in ordinary) >= 0.8 * len(ordinary)


def test_every_module_of_mlx_lm_is_in_the_document() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in module_names() if f"`{name}`" not in document] == []


@pytest.mark.parametrize("name", ["llama", "gemma3n", "falcon_h1"])
def test_a_wrong_row_is_found(name: str) -> None:
    right = dispatch.attend

    def shifted(codec, queries, codes, scales, scale, mask):
        return right(codec, queries, mx.roll(codes, 1, axis=3), scales, scale, mask)

    with mock.patch.object(dispatch, "attend", shifted), pytest.raises(AssertionError, match=name):
        check(try_architecture(name, FEW_STEPS))


def test_wrong_bytes_are_found() -> None:
    with (
        mock.patch("app.engine.kv_buffers.KVBuffers.nbytes", 1000),
        pytest.raises(AssertionError),
    ):
        try_architecture("llama", FEW_STEPS)


def test_a_layer_that_reads_its_keys_itself_is_said_to_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without handles that can be cast, StableLM's attention stays fp16, and the row says so."""
    monkeypatch.delattr(Int4Handle, "astype")
    trial = try_architecture("stablelm", FEW_STEPS)
    assert (trial.engaged, trial.ordinary, trial.left) == ("no", 2, 2)
    assert row(trial).endswith("| the model reads its keys or values itself (`astype`) |")


def test_rows() -> None:
    assert row(Trial("llama", 1, 2, ("a", "b"), ratio=1.5)) == (
        "| `llama` (and `iquestcoder`, `mistral`, `xverse`) | partly | 1 of 2 | 1.50 | a; b |"
    )
    assert row(Trial("gear", not_run="why")) == "| `gear` | not run | | | why |"
