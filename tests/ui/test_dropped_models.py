"""A model folder that is dropped on the window is opened; what is no model is said, and the model before stays open."""

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QLabel

from app.ui.attachment_chips import AttachmentChip


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "another model"
    folder.mkdir()
    return folder


def mime(*paths) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return data


def drop(widget, data: QMimeData) -> None:
    action, button, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(9, 9), action, data, button, none)
    QApplication.sendEvent(widget, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(widget, QDropEvent(QPointF(9, 9), action, data, button, none))


def notice(driver) -> str:
    return driver.find("notice_message", QLabel).text()


def test_a_folder_is_opened_as_a_model(driver, model):
    drop(driver.window, mime(model))
    driver.until(lambda: not driver.program.models.model.is_loading)
    assert driver.program.models.model.facts.path == str(model)
    assert not driver.window.composer.attachments.findChildren(AttachmentChip)


def test_a_folder_pasted_into_the_field_too_and_text_beside_it_is_attached(driver, model, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("A fox.")
    driver.window.composer.edit.insertFromMimeData(mime(notes, model))
    driver.until(lambda: not driver.program.models.model.is_loading)
    assert driver.program.models.model.facts.path == str(model)
    assert len(driver.window.composer.attachments.findChildren(AttachmentChip)) == 1
    assert driver.window.composer.text == ""


@pytest.mark.parametrize("name", ["model.gguf", "model-00001-of-00002.safetensors"])
def test_a_file_of_weights_goes_the_same_way_and_the_engine_says_what_it_is(driver, tmp_path, name):
    before = driver.program.models.model.facts.path
    file = tmp_path / name
    file.write_bytes(b"GGUF")
    drop(driver.window, mime(file))
    driver.until(lambda: name in notice(driver))
    driver.until(lambda: not driver.program.models.model.is_loading)
    assert driver.program.models.model.facts.path == before


def test_of_two_folders_none_is_opened(driver, model, tmp_path):
    before = driver.program.models.model.facts.path
    drop(driver.window, mime(model, tmp_path))
    assert notice(driver).startswith("Nibble opens one model at a time.")
    assert not driver.program.models.model.is_loading
    assert driver.program.models.model.facts.path == before
