"""The windows around choosing a model, for tests/screenshots.py."""

import json
from pathlib import Path

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QTableView, QWidget

from app.catalogue.entries import catalogue
from app.main import Program
from app.ui.models_window import ModelsWindow
from app.viewmodels.downloads import DownloadState, DownloadStatus
from app.viewmodels.model_list import ModelList
from app.viewmodels.model_table import KEY_ROLE
from tests.scripted_downloads import ScriptedDownloads
from tests.ui.window_driver import until


async def models(program: Program) -> QWidget:
    """Show the list of models, one that does not fit selected."""
    program.window.actions_.models.trigger()
    window = program.window.findChild(ModelsWindow)
    return await _settled(
        window, program.models.catalogue, program.window.size(), "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit"
    )


async def models_here(program: Program) -> QWidget:
    """Show models of other programs: one with a long name, one that is not whole, one that does not fit."""
    home = _home(program)
    config = json.loads(next(entry.config for entry in catalogue() if "Llama-3.2-1B" in entry.repo))
    large = config | {"num_hidden_layers": 80, "hidden_size": 8192, "intermediate_size": 28672, "head_dim": 128}
    long_name = "Llama-3.2-1B-Instruct-Somebodys-Own-Fine-Tune-for-Recipes-and-Gardening-MLX-4bit"
    for name, its_config, weights in (
        (long_name, config, b"{}"),
        ("Half-Fetched-4bit", config, b"{"),
        ("Llama-3.3-70B-Instruct-4bit", large, b"{}"),
    ):
        folder = home / ".lmstudio" / "models" / "someone" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(its_config))
        (folder / "tokenizer.json").write_text("{}")
        (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + weights)
    models = _models(program, ScriptedDownloads(), home)
    window = ModelsWindow(models, program.window)
    window.show()
    return await _settled(window, models, program.window.size(), str(folder))


async def models_fetching(program: Program) -> QWidget:
    """Show a model that is being fetched, one that is paused, and one that failed."""
    states = {
        "mlx-community/Qwen3-4B-4bit": DownloadState(
            DownloadStatus.RUNNING, 1_240_000_000, 2_270_000_000, 23_400_000.0, 44.0
        ),
        "mlx-community/gemma-3-1b-it-4bit": DownloadState(DownloadStatus.PAUSED, 320_000_000, 772_000_000),
        "mlx-community/SmolLM3-3B-4bit": DownloadState(
            DownloadStatus.FAILED, 0, None, error="The hub could not be reached.", hint="Check the connection."
        ),
    }
    models = _models(program, ScriptedDownloads(states), _home(program))
    window = ModelsWindow(models, program.window)
    window.show()
    return await _settled(window, models, program.window.size(), "mlx-community/Qwen3-4B-4bit")


async def models_refused(program: Program) -> QWidget:
    """Show a model being refused, and how to open it anyway."""
    big = Path(program.models.model.facts.path).with_name("Llama-3.3-70B-Instruct-4bit [big]")
    big.mkdir()
    program.models.session.load_model(str(big))
    await until(lambda: program.window.findChild(QWidget, "fit_dialog") is not None)
    return program.window.findChild(QWidget, "fit_dialog")


def _home(program: Program) -> Path:
    return Path(program.models.model.facts.path).parent


def _models(program: Program, downloads: ScriptedDownloads, home: Path) -> ModelList:
    parts = program.models
    starter = Path(parts.model.facts.path)
    return ModelList(parts.engine, parts.model, parts.settings, catalogue(), starter, downloads, home, program.window)


async def _settled(window: ModelsWindow, models: ModelList, size: QSize, key: str) -> ModelsWindow:
    """Wait until all that can be known of the list is; select a row."""
    window.resize(QSize(1040, 680).boundedTo(size))
    view = window.findChild(QTableView, "models_table")
    await until(lambda: all(row.needs or row.problem for row in models.rows))
    for line in range(view.model().rowCount()):
        if view.model().index(line, 0).data(KEY_ROLE) == key:
            view.setCurrentIndex(view.model().index(line, 0))
    return window


MODEL_SCENES = (
    ("models", models),
    ("models-here", models_here),
    ("models-fetching", models_fetching),
    ("models-refused", models_refused),
)
