"""A window of models over scripted downloads, beside the program's own."""

from pathlib import Path

from PySide6.QtWidgets import QTableView

from app.catalogue.entries import catalogue
from app.ui.models_window import ModelsWindow
from app.viewmodels.downloads import DownloadState
from app.viewmodels.model_list import ModelList
from app.viewmodels.model_table import KEY_ROLE
from tests.scripted_downloads import ScriptedDownloads
from tests.ui.window_driver import Driver

LLAMA = "mlx-community/Llama-3.2-1B-Instruct-4bit"


def models_window(driver: Driver, states: dict[str, DownloadState] | None = None, selected: str = "") -> ModelsWindow:
    """Return the window, shown, with all that can be known of its models; `selected` is a row's key."""
    parts = driver.program.models
    starter = Path(parts.model.facts.path)
    downloads = ScriptedDownloads(states)
    models = ModelList(parts.engine, parts.model, parts.settings, catalogue(), starter, downloads)
    models.setParent(driver.window)
    downloads.setParent(driver.window)
    window = ModelsWindow(models, driver.window)
    window.models, window.downloads = models, downloads
    window.show()
    driver.until(lambda: all(row.needs or row.problem for row in models.rows))
    select(window, selected)
    return window


def select(window: ModelsWindow, key: str) -> None:
    view = window.findChild(QTableView, "models_table")
    for line in range(view.model().rowCount()):
        if view.model().index(line, 0).data(KEY_ROLE) == key:
            view.setCurrentIndex(view.model().index(line, 0))
