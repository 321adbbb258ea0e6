"""The ablations learn what they say, count errors right, and run from the command line."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache

from app.engine.ablations.__main__ import key_error, main
from app.engine.ablations.arms import arms, base_rotation, record
from app.engine.ablations.coding import Coding, deployed_lambda, rounded
from app.engine.ablations.learning import Learned, learn, learned_rotation
from app.engine.model_folder import open_model
from kernels.rotation import RotationKind
from tests.tiny_model import write_tiny_model

DIM = 32
STEPS = 30


def key_like_rows(tokens: int = 96) -> mx.array:
    """Rows `[2, 1, 2, L, D]` whose channels differ in size and mean, as keys' do."""
    keys = [mx.random.key(i) for i in range(3)]
    sizes = mx.exp(0.8 * mx.random.normal((2, 1, 2, 1, DIM), key=keys[0]))
    means = mx.random.normal((2, 1, 2, 1, DIM), key=keys[1])
    return means + sizes * mx.random.normal((2, 1, 2, tokens, DIM), key=keys[2])


def numpy_coded(x: np.ndarray, rotation: np.ndarray, lam: np.ndarray, mu: np.ndarray, group: int) -> np.ndarray:
    """Code one head's rows in float64, a value at a time where it matters. Shapes: `[L, D]`."""
    scaled = ((x - mu) @ rotation) * lam
    out = np.empty_like(scaled)
    for row in range(scaled.shape[0]):
        for start in range(0, scaled.shape[1], group):
            values = scaled[row, start : start + group]
            step = np.abs(values).max() / 7
            out[row, start : start + group] = np.round(values / step) * step
    back: np.ndarray = (out / lam) @ rotation.T + mu
    return back


@pytest.mark.parametrize("group_size", [8, 24, DIM])
def test_errors_are_numpys(group_size: int) -> None:
    """A head size that is no multiple of the group size (24) ends in a shorter group."""
    rows = key_like_rows()
    rotation = base_rotation(RotationKind.SRFT, DIM, layer=3)
    lam, mu = deployed_lambda(rotation, rows), rows.mean(axis=(1, 3))
    errors = Coding(rotation, group_size, lam, mu).squared_errors(rows)
    for which in range(2):
        expected = []
        for head in range(2):
            x, r, la, m = (
                np.array(a, np.float64)
                for a in (rows[which, 0, head], rotation[which], lam[which, head], mu[which, head])
            )
            expected.append(np.mean((numpy_coded(x, r, la, m, group_size) - x) ** 2))
        # A value that lies between two codes in float32 may be rounded to the other one.
        assert errors[which].item() == pytest.approx(np.mean(expected), rel=1e-3)


def test_the_error_of_a_model_is_the_mean_of_its_layers_keys() -> None:
    rows = {0: key_like_rows(), 4: 3 * key_like_rows()}
    codings = {layer: Coding(base_rotation(RotationKind.SRFT, DIM, layer), DIM) for layer in rows}
    expected = [np.mean((np.array(codings[i].coded(x))[0] - np.array(x)[0]) ** 2) for i, x in rows.items()]
    assert key_error(codings, rows) == pytest.approx(np.mean(expected), rel=1e-5)


def test_deployed_lambda_makes_every_channel_reach_one() -> None:
    rows = key_like_rows()
    rotation = base_rotation(RotationKind.SRFT, DIM, layer=0)
    scaled = (rows @ rotation[:, None, None]) * deployed_lambda(rotation, rows)[:, None, :, None]
    assert mx.allclose(mx.abs(scaled).max(axis=(1, 3)), mx.ones((2, 2, DIM)), atol=1e-5).item()


def test_rows_of_zeros_stay_zeros() -> None:
    assert mx.array_equal(rounded(mx.zeros((3, DIM)), 16), mx.zeros((3, DIM))).item()


@pytest.mark.parametrize("kind", [RotationKind.SRFT, RotationKind.IDENTITY])
@pytest.mark.parametrize("what", Learned)
def test_learning_cuts_the_error_and_keeps_the_rotation_orthonormal(what: Learned, kind: RotationKind) -> None:
    rows, base = key_like_rows(), base_rotation(kind, DIM, layer=0)
    training = learn(rows, base, DIM, what, STEPS)
    rotation = training.coding.rotation
    assert mx.abs(rotation @ rotation.swapaxes(-1, -2) - mx.eye(DIM)).max().item() < 1e-5
    assert mx.allclose(training.before, Coding(base, DIM).squared_errors(rows), rtol=1e-4).item()
    assert mx.allclose(training.after, training.coding.squared_errors(rows), rtol=1e-4).item()
    assert (training.after < 0.95 * training.before).all().item()
    assert mx.array_equal(rotation, base).item() is (what is Learned.LAMBDA)


def test_learned_lambda_is_never_worse_than_one_on_its_rows() -> None:
    """Rows that lambda can only harm: every channel alike. Two of them, so that Adam fits noise."""
    rows = mx.random.normal((2, 1, 2, 2, DIM), key=mx.random.key(9))
    base = base_rotation(RotationKind.SRFT, DIM, layer=0)
    for steps in (1, 7, STEPS):
        training = learn(rows, base, DIM, Learned.LAMBDA, steps)
        assert (training.after <= training.before).all().item()


def test_a_householder_product_is_its_reflections_one_after_the_other() -> None:
    vectors = mx.random.normal((2, DIM // 2, DIM), key=mx.random.key(1))
    product = np.array(learned_rotation(Learned.HOUSEHOLDER, vectors), np.float64)
    for which in range(2):
        expected = np.eye(DIM)
        for v in np.array(vectors[which], np.float64):
            expected = expected @ (np.eye(DIM) - 2 * np.outer(v, v) / (v @ v))
        np.testing.assert_allclose(product[which], expected, atol=1e-5)


def test_a_cayley_rotation_has_the_gradient_of_finite_differences() -> None:
    """MLX differentiates no inverse; ours is checked where it is used."""
    weights = mx.random.normal((2, 6, 6), key=mx.random.key(2))
    parameters = 0.3 * mx.random.normal((2, 6, 6), key=mx.random.key(3))

    def value(p: mx.array) -> mx.array:
        return (weights * learned_rotation(Learned.CAYLEY, p)).sum()

    gradient = mx.grad(value)(parameters)
    slope = mx.linalg.norm(gradient).item()
    step = 1e-2 * gradient / slope
    difference = (value(parameters + step) - value(parameters - step)).item() / 2e-2
    assert slope == pytest.approx(difference, rel=1e-2)


def test_srht_is_left_out_where_there_is_no_hadamard_matrix() -> None:
    assert "SRHT" in [arm.name for arm in arms(128, steps=1)]
    assert "SRHT" not in [arm.name for arm in arms(72, steps=1)]


def test_recorded_rows_are_the_caches(tmp_path: Path) -> None:
    opened = open_model(write_tiny_model(tmp_path / "model", "gemma3_text"), lambda _: None)
    windows = [list(range(i, i + 20)) for i in range(2)]
    caches = make_prompt_cache(opened.model)
    opened.model(mx.array(windows), cache=caches)
    rows = record(opened, windows)
    assert sorted(rows) == list(range(len(caches)))
    for layer, cache in enumerate(caches):
        assert mx.array_equal(rows[layer], mx.stack(cache.state[:2])[..., :20, :]).item()


@pytest.mark.parametrize("model_type", ["qwen2", "gemma3_text"])
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], model_type: str) -> None:
    model = write_tiny_model(tmp_path / "model", model_type)
    text, out = tmp_path / "text.txt", tmp_path / "out.json"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 3, encoding="utf-8")
    effort = ["--context", "40", "--windows", "2", "--steps", "3"]
    assert main(["--model", str(model), "--text", str(text), "--json", str(out), *effort]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    printed = capsys.readouterr()
    names = [line["name"] for line in found["figures"]]
    assert names == [arm.name for arm in arms(32, steps=1)]
    assert all(name in printed.out for name in names)
    assert "text.txt" in printed.out
    assert "Qwen2.5-1.5B" in printed.out
    assert "fitted" in printed.err
    assert found["quality"]["machine"]["mlx_version"]
    baseline = found["figures"][names.index("SRFT, g 32")]
    assert baseline["reduction"] == baseline["training_reduction"] == 0
    assert all(line["kl_nats"] > 0 and line["error"] > 0 for line in found["figures"])


def test_a_text_that_is_too_short_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, text = write_tiny_model(tmp_path / "model"), tmp_path / "text.txt"
    text.write_text("Short.", encoding="utf-8")
    assert main(["--model", str(model), "--text", str(text), "--context", "40"]) == 1
    assert "text.txt has" in capsys.readouterr().err
