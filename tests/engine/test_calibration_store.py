"""Calibrations on disk: what was stored comes back, nothing stale or spoilt is ever used, and a model is read once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.engine import calibration_store, model_folder
from app.engine.calibration import Calibration, CalibrationError, LayerConstants
from app.engine.calibration_store import CalibrationStore, fingerprint
from app.engine.model_folder import Calibrating, OpenModel, open_model
from tests.tiny_model import write_tiny_model


def never() -> bool:
    return False


@pytest.fixture
def kept(tmp_path: Path) -> tuple[CalibrationStore, Calibration]:
    store = CalibrationStore(tmp_path / "calibrations")
    rows = mx.random.normal((2, 2, 32), key=mx.random.key(0))
    whole = LayerConstants(rows, rows[0].abs() + 1, rows.abs() + 2)
    made = Calibration((whole, LayerConstants(reason="so"), LayerConstants(rows)), "s", ("r",))
    store.save("a" * 32, "text", made)
    return store, made


def test_what_was_stored_comes_back_bit_by_bit(kept: tuple[CalibrationStore, Calibration]) -> None:
    store, made = kept
    loaded = store.load("a" * 32, "text", 3)
    assert loaded is not None
    assert (loaded.source, loaded.remarks) == (made.source, made.remarks)
    for got, right in zip(loaded.layers, made.layers, strict=True):
        assert got.reason == right.reason
        assert got.arrays.keys() == right.arrays.keys()
        for name, array in got.arrays.items():
            assert np.array(array).tobytes() == np.array(right.arrays[name]).tobytes()
    assert [p.name for p in store.path("").parent.iterdir()] == ["a" * 32 + ".safetensors"]


def test_nothing_of_another_model_or_text_is_used(kept: tuple[CalibrationStore, Calibration]) -> None:
    store, _ = kept
    assert store.load("b" * 32, "text", 3) is None
    assert store.load("a" * 32, "another text", 3) is None
    set_version(store.path("a" * 32), "1")
    assert store.load("a" * 32, "text", 3) is None, "one made before there was smooth is made again"
    set_version(store.path("a" * 32), str(calibration_store.VERSION))
    assert store.load("a" * 32, "text", 3) is not None
    store.path("a" * 32).rename(store.path("b" * 32))
    assert store.load("b" * 32, "text", 3) is None
    assert store.path("b" * 32).exists()


def set_version(path: Path, version: str) -> None:
    arrays, metadata = mx.load(str(path), return_metadata=True)
    mx.eval(arrays)
    mx.save_safetensors(str(path), arrays, {**metadata, "version": version})


def no_factor(path: Path) -> None:
    arrays, metadata = mx.load(str(path), return_metadata=True)
    mx.eval(arrays)
    arrays["0.smooth"] = arrays["0.smooth"] * 0
    mx.save_safetensors(str(path), arrays, metadata)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def scribble(path: Path) -> None:
    path.write_bytes(b"nothing")


def not_finite(path: Path) -> None:
    arrays, metadata = mx.load(str(path), return_metadata=True)
    arrays["0.mu"] = mx.full((2, 2, 32), float("nan"))
    mx.save_safetensors(str(path), arrays, metadata)


def no_reasons(path: Path) -> None:
    arrays, metadata = mx.load(str(path), return_metadata=True)
    del metadata["reasons"]
    mx.save_safetensors(str(path), arrays, metadata)


@pytest.mark.parametrize("spoil", [cut, scribble, not_finite, no_factor, no_reasons])
def test_a_corrupt_file_is_moved_aside(
    spoil: Callable[[Path], None], kept: tuple[CalibrationStore, Calibration]
) -> None:
    store, made = kept
    spoil(store.path("a" * 32))
    assert store.load("a" * 32, "text", 3) is None
    (aside,) = store.path("").parent.iterdir()
    assert ".bad-" in aside.name
    store.save("a" * 32, "text", made)
    assert store.load("a" * 32, "text", 3) is not None


def test_the_file_of_a_newer_nibble_is_not_written_over(
    kept: tuple[CalibrationStore, Calibration], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, made = kept
    content = store.path("a" * 32).read_bytes()
    monkeypatch.setattr(calibration_store, "VERSION", calibration_store.VERSION - 1)
    assert store.load("a" * 32, "text", 3) is None
    store.save("a" * 32, "text", made)
    (aside,) = store.path("a" * 32).parent.glob("*.newer-*")
    assert aside.read_bytes() == content
    assert store.load("a" * 32, "text", 3) is not None


def test_the_fingerprint_follows_config_and_weights(tmp_path: Path) -> None:
    first = write_tiny_model(tmp_path / "first")
    same = write_tiny_model(tmp_path / "same")
    assert fingerprint(first) == fingerprint(same)
    other = write_tiny_model(tmp_path / "other", rope_theta=500.0)
    weights = dict(mx.load(str(same / "model.safetensors")))
    name = next(name for name in weights if name.endswith("o_proj.weight"))
    mx.save_safetensors(str(same / "model.safetensors"), {**weights, name: weights[name] * 1.01}, {"format": "mlx"})
    assert len({fingerprint(first), fingerprint(same), fingerprint(other)}) == 3


# Opening a model


def opened(folder: Path, calibrations: Path, cancelled: Callable[[], bool] = never) -> tuple[OpenModel, list[float]]:
    shares: list[float] = []
    return open_model(folder, lambda _: None, Calibrating(calibrations, shares.append, cancelled)), shares


def test_a_model_is_calibrated_once(folder: Path, tmp_path: Path) -> None:
    first, shares = opened(folder, tmp_path / "kept")
    assert shares[-1] == 1.0
    assert first.facts.remarks == ()
    assert first.calibration.source == "calibration"
    again, shares = opened(folder, tmp_path / "kept")
    assert shares == []
    for a, b in zip(first.calibration.layers, again.calibration.layers, strict=True):
        assert np.array_equal(np.array(a.mu), np.array(b.mu))
    plain = open_model(folder, lambda _: None)
    assert plain.calibration.source == "the model's weights"
    assert plain.calibration.layers[0].mu is not None


def test_skipped_or_failed_it_opens_all_the_same_and_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipped, _ = opened(folder, tmp_path / "kept", lambda: True)
    assert "skipped" in skipped.facts.remarks[-1]
    assert skipped.calibration.source == "the model's weights"
    assert not (tmp_path / "kept").exists()

    def fail(*_: Any) -> Calibration:
        raise CalibrationError("layer 2 has rows that are not finite")

    monkeypatch.setattr(model_folder, "calibrate", fail)
    failed, _ = opened(folder, tmp_path / "kept")
    assert "layer 2 has rows that are not finite" in failed.facts.remarks[-1]


def test_where_nothing_can_be_kept_it_works_and_says_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    made, _ = opened(folder, tmp_path / "kept")
    assert made.calibration.source == "calibration"
    assert "could not be kept" in made.facts.remarks[-1]
