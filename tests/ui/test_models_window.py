"""The list of models as a person uses it, over the fake engine's own process."""

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QLabel, QMessageBox, QProgressBar, QTableView

from app.catalogue.entries import catalogue
from app.ui.models_window import ModelsWindow
from app.viewmodels.downloads import DownloadStatus
from app.viewmodels.model_list import ModelList
from app.viewmodels.model_table import KEY_ROLE
from app.viewmodels.reply import ChatState
from tests.ui.models_window_parts import LLAMA, models_window, select

CONFIG = next(entry.config for entry in catalogue() if entry.repo == LLAMA)


def put(home: Path, name: str) -> Path:
    """Put a model where LM Studio would."""
    folder = home / ".lmstudio" / "models" / "someone" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(CONFIG)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


def offered(window: ModelsWindow) -> list[str]:
    details = window.findChild(object, "model_details")
    return [b.text() for b in details.findChildren(QAbstractButton) if b.isVisible()]


def said(window: ModelsWindow, name: str) -> str:
    label = window.findChild(QLabel, name)
    return label.text() if label.isVisible() else ""


def keys(window: ModelsWindow) -> list[str]:
    rows = window.findChild(QTableView, "models_table").model()
    return [rows.index(line, 0).data(KEY_ROLE) for line in range(rows.rowCount())]


@pytest.fixture
def opened(driver):
    """The window as the menu opens it."""
    driver.window.actions_.models.trigger()
    window = driver.window.findChild(ModelsWindow)
    models = driver.program.models.catalogue
    driver.until(lambda: all(row.needs or row.problem for row in models.rows))
    yield window
    window.close()


def test_the_menu_opens_one_list_with_the_open_model_selected(driver, opened):
    assert keys(opened)[0] == ""
    assert set(keys(opened)[1:]) == {entry.repo for entry in catalogue()}
    assert said(opened, "model_title") == "Starter"
    assert offered(opened) == []


def test_the_selected_model_is_told_with_its_fit(driver, opened):
    select(opened, LLAMA)
    assert said(opened, "model_title") == "Llama 3.2 1B Instruct"
    assert said(opened, "model_fit").startswith("Fits: beside 676 MB of weights")
    assert "16 layers with a cache, all in int4" in said(opened, "model_needs")
    assert LLAMA in said(opened, "model_where")


def test_a_model_of_another_program_is_opened_where_it_is(driver, nibble_home):
    folder = put(nibble_home, "Mine-4bit")
    window = models_window(driver, selected=str(folder))
    window.open_asked.connect(driver.session.load_model)
    assert offered(window) == ["Open"]
    window.findChild(QAbstractButton, "model_open").click()
    driver.until(lambda: driver.program.models.model.path == str(folder) and driver.session.state is ChatState.IDLE)
    assert offered(window) == []
    assert driver.window.header.picker.text() == "Mine-4bit"
    window.close()


def test_return_and_a_double_click_do_what_the_first_button_does(driver, nibble_home):
    folder = put(nibble_home, "Mine-4bit")
    window = models_window(driver, selected=LLAMA)
    view = window.findChild(QTableView, "models_table")
    QTest.keyClick(view, Qt.Key.Key_Return)
    assert window.downloads.asked == [("start", LLAMA)]
    asked = []
    window.open_asked.connect(asked.append)
    select(window, str(folder))
    view.doubleClicked.emit(view.currentIndex())
    assert asked == [str(folder)]
    window.close()


def test_a_download_is_begun_paused_resumed_and_cancelled(driver):
    window = models_window(driver, selected=LLAMA)
    assert offered(window) == ["Get"]
    for name, left in (
        ("model_get", ["Pause", "Cancel"]),
        ("model_pause", ["Resume", "Cancel"]),
        ("model_resume", ["Pause", "Cancel"]),
        ("model_cancel", ["Get"]),
    ):
        window.findChild(QAbstractButton, name).click()
        assert offered(window) == left
    assert [what for what, _ in window.downloads.asked] == ["start", "pause", "start", "cancel"]
    window.close()


def test_progress_is_told_in_bytes_speed_and_time_left(driver):
    window = models_window(driver, selected=LLAMA)
    bar = window.findChild(QProgressBar, "model_progress")
    assert not bar.isVisible()
    window.downloads.set(LLAMA, status=DownloadStatus.RUNNING, note="Asking the hub")
    assert bar.isVisible()
    assert (bar.minimum(), bar.maximum()) == (0, 0), "nobody knows how much"
    assert said(window, "model_progress_text") == "Asking the hub"
    window.downloads.set(
        LLAMA, note="", bytes_done=178_000_000, bytes_total=712_000_000, bytes_per_s=8_900_000.0, seconds_left=60.0
    )
    assert (bar.value(), bar.maximum()) == (250, 1000)
    assert said(window, "model_progress_text") == "178 MB of 712 MB, 8.90 MB/s, 1 min left"
    window.downloads.set(LLAMA, status=DownloadStatus.FAILED, error="The disk is full.", hint="Free some space.")
    assert said(window, "model_where") == "The disk is full. Free some space."
    assert offered(window) == ["Resume", "Cancel"]
    window.close()


def test_without_downloads_it_is_said_that_nothing_can_be_fetched(driver):
    parts = driver.program.models
    models = ModelList(parts.engine, parts.model, parts.settings, catalogue(), Path(parts.model.facts.path))
    window = ModelsWindow(models, driver.window)
    window.show()
    select(window, LLAMA)
    assert "cannot be fetched here" in said(window, "models_introduction")
    assert offered(window) == []
    driver.until(lambda: all(row.needs or row.problem for row in models.rows))
    window.close()


def test_the_selection_stays_as_rows_come_and_the_table_is_sorted(driver, nibble_home):
    window = models_window(driver, selected=LLAMA)
    put(nibble_home, "Mine-4bit")
    window.findChild(QAbstractButton, "models_refresh").click()
    assert said(window, "model_title") == "Llama 3.2 1B Instruct"
    assert any(key.endswith("Mine-4bit") for key in keys(window))
    view = window.findChild(QTableView, "models_table")
    view.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    assert said(window, "model_title") == "Llama 3.2 1B Instruct"
    assert keys(window)[0] == "mlx-community/Qwen3-8B-4bit"
    window.close()


def test_a_model_that_does_not_fit_is_opened_anyway(driver, tmp_path):
    folder = tmp_path / "Huge [big]"
    folder.mkdir()
    driver.session.load_model(str(folder))
    driver.until(lambda: driver.window.findChild(QMessageBox, "fit_dialog") is not None)
    dialog = driver.find("fit_dialog", QMessageBox)
    assert "does not fit in memory here" in dialog.text()
    assert driver.program.models.model.is_starter
    driver.click("fit_dialog_yes")
    driver.until(lambda: driver.program.models.model.path == str(folder))
    driver.until_idle()
    assert driver.window.header.picker.text().startswith("Huge")


def test_the_starters_note_and_the_picker_lead_to_the_list(driver):
    driver.find("starter_text", QLabel).linkActivated.emit("get")
    window = driver.window.findChild(ModelsWindow)
    assert window.isVisible()
    window.close()
    driver.window.header.picker.fill_menu()
    entries = [a.text() for a in driver.window.header.picker.menu().actions()]
    assert entries[-2:] == ["Get a Real Model…", "Open Model Folder…"]
