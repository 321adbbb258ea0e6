"""Models of other programs are found where they lie, each once, and what is missing is said."""

from pathlib import Path

import pytest

from app.catalogue.local_models import Place, local_models
from tests.tiny_model import write_tiny_model


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(hub: Path, repo: str, commit: str = "c0ffee", *, is_main: bool = True) -> Path:
    folder = hub / f"models--{repo.replace('/', '--')}"
    if is_main:
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(commit)
    return write_tiny_model(folder / "snapshots" / commit)


def test_models_of_all_places_are_found_in_place(tmp_path: Path, hub: Path) -> None:
    snapshot = cached(hub, "mlx-community/Tiny-4bit")
    studio = write_tiny_model(tmp_path / "home" / ".lmstudio" / "models" / "publisher" / "Zebra")
    older = write_tiny_model(tmp_path / "home" / ".cache" / "lm-studio" / "models" / "someone" / "Old")
    opened = write_tiny_model(tmp_path / "mine")
    found = local_models([str(opened), str(tmp_path / "gone")], tmp_path / "home")
    assert [(m.repo, m.folder, m.place) for m in found] == [
        ("mine", opened, Place.OPENED),
        ("mlx-community/Tiny-4bit", snapshot, Place.HUB),
        ("publisher/Zebra", studio, Place.LM_STUDIO),
        ("someone/Old", older, Place.LM_STUDIO),
    ]
    assert all(model.is_complete for model in found)
    assert all(model.config == (model.folder / "config.json").read_text() for model in found)


def test_a_folder_that_was_opened_and_is_another_programs_is_listed_once(tmp_path: Path, hub: Path) -> None:
    snapshot = cached(hub, "mlx-community/Tiny-4bit")
    link = tmp_path / "link"
    link.symlink_to(snapshot)
    (found,) = local_models([str(link), str(snapshot)], tmp_path)
    assert (found.repo, found.folder, found.place) == ("mlx-community/Tiny-4bit", snapshot, Place.HUB)


def test_the_main_branch_of_a_repository_is_taken_and_without_one_every_snapshot(tmp_path: Path, hub: Path) -> None:
    main = cached(hub, "a/one", "bbb")
    cached(hub, "a/one", "aaa", is_main=False)
    first, second = cached(hub, "a/two", "111", is_main=False), cached(hub, "a/two", "222", is_main=False)
    assert [m.folder for m in local_models([], tmp_path)] == [main, first, second]


def test_what_is_not_whole_is_listed_with_what_is_missing(tmp_path: Path, hub: Path) -> None:
    snapshot = cached(hub, "mlx-community/Tiny-4bit")
    weights = snapshot / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    studio = write_tiny_model(tmp_path / ".lmstudio" / "models" / "p" / "Sharded")
    (studio / "model.safetensors").rename(studio / "model-00001-of-00002.safetensors")
    found = {model.repo: model for model in local_models([], tmp_path)}
    assert "cut short" in found["mlx-community/Tiny-4bit"].missing
    assert "model-00002-of-00002.safetensors" in found["p/Sharded"].missing
    assert not any(model.is_complete for model in found.values())


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n", "apache-2.0"),
        ("---\r\nlicense: 'llama3.2'\r\n---\r\n", "llama3.2"),
        ("---\nlanguage: en\n---\nlicense: mit\n", ""),
        ("license: mit\n", ""),
        ("", ""),
    ],
)
def test_the_licence_is_that_of_the_model_card(tmp_path: Path, hub: Path, card: str, licence: str) -> None:
    snapshot = cached(hub, "a/one")
    (snapshot / "README.md").write_bytes(card.encode())
    assert [m.licence for m in local_models([], tmp_path)] == [licence]


def test_what_is_no_language_model_is_left_out(tmp_path: Path, hub: Path) -> None:
    other = tmp_path / ".lmstudio" / "models" / "p"
    for name, files in {
        "gguf": {"model.gguf": "x"},
        "no-type": {"config.json": "{}", "model.safetensors": ""},
        "no-json": {"config.json": "[", "model.safetensors": ""},
        "torch": {"config.json": '{"model_type": "bert"}', "pytorch_model.bin": ""},
    }.items():
        (other / name).mkdir(parents=True)
        for file, text in files.items():
            (other / name / file).write_text(text)
    (hub / "datasets--a--b" / "snapshots" / "c").mkdir(parents=True)
    (hub / "version.txt").write_text("1")
    (hub / "models--nobody").mkdir()
    assert local_models([], tmp_path) == ()
