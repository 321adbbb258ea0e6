"""A GPU that runs out of memory while it computes: told as that, and int4 is not blamed for it."""

from pathlib import Path

import pytest

from app.engine import mlx_engine, model_folder
from app.engine.mlx_engine import MlxEngine
from app.engine.protocol import Load
from app.errors import NibbleError

SAID = "[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackError...)"


def starve(*_: object) -> None:
    raise RuntimeError(SAID)


def test_int4_is_not_given_up_for_want_of_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_folder.mx, "eval", starve)
    engine = MlxEngine()
    with pytest.raises(NibbleError, match="There is not enough memory to open tiny"):
        engine.load(Load("1", str(folder)), lambda _: None, lambda: False)


def test_weights_that_memory_does_not_hold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_folder, "load_model", lambda *_, **__: starve())
    with pytest.raises(NibbleError, match="There is not enough memory to open tiny"):
        model_folder.open_model(folder, lambda _: None)


def test_other_errors_of_the_gpu_are_defects() -> None:
    with pytest.raises(RuntimeError, match="Timeout"), mlx_engine._memory_for("go on", "Wait."):
        raise RuntimeError("[METAL] Command buffer execution failed: GPU Timeout")
