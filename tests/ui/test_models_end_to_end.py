"""A model fetched from a hub on loopback by the list's own button, and opened from there."""

from pathlib import Path

from PySide6.QtWidgets import QAbstractButton

from app.catalogue.entries import CatalogueEntry
from app.ui.models_window import ModelsWindow
from app.viewmodels.downloads import DownloadStatus
from app.viewmodels.model_list import ModelList
from app.viewmodels.reply import ChatState
from tests.catalogue.local_hub import REPO
from tests.ui.models_window_parts import select

CONFIG = (
    '{"model_type": "qwen3", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 64, "vocab_size": 99,'
    ' "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 512}'
)


def test_a_model_is_fetched_and_opened(driver, hub):
    parts = driver.program.models
    entry = CatalogueEntry(REPO, "Small", "mit", CONFIG, 512, "config: nobody's")
    starter = Path(parts.model.facts.path)
    models = ModelList(parts.engine, parts.model, parts.settings, (entry,), starter, parts.downloads)
    models.setParent(driver.window)
    window = ModelsWindow(models, driver.window)
    window.open_asked.connect(driver.session.load_model)
    window.show()
    select(window, REPO)
    window.findChild(QAbstractButton, "model_get").click()
    driver.until(lambda: parts.downloads.state(REPO).status in (DownloadStatus.DONE, DownloadStatus.FAILED))
    assert parts.downloads.state(REPO).status is DownloadStatus.DONE, parts.downloads.state(REPO)
    row = models.row(REPO)
    assert row.is_here, row
    window.findChild(QAbstractButton, "model_open").click()
    driver.until(lambda: parts.model.path == row.folder and driver.session.state is ChatState.IDLE)
    assert driver.window.header.picker.text() == REPO.partition("/")[2]
    window.close()
