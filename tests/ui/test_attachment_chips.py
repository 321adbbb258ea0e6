"""Text files in the composer and in the transcript, through the whole window."""

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QAbstractButton, QApplication, QFileDialog, QLabel

from app.ui.attachment_chips import AttachmentChip
from app.viewmodels.reply import ChatState


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("A fox finds a lantern.\n" * 10)
    return path


def mime(*paths) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return data


def drop(widget, data: QMimeData) -> bool:
    action, button, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(9, 9), action, data, button, none)
    QApplication.sendEvent(widget, enter)
    if enter.isAccepted():
        QApplication.sendEvent(widget, QDropEvent(QPointF(9, 9), action, data, button, none))
    return enter.isAccepted()


def chips(driver) -> list[str]:
    return [chip.accessibleName() for chip in driver.window.composer.attachments.findChildren(AttachmentChip)]


def test_a_file_is_dropped_counted_sent_and_folded(driver, notes):
    assert drop(driver.window, mime(notes))
    assert driver.find("attachment_0").isVisibleTo(driver.window)
    driver.until(lambda: chips(driver)[0].endswith("tokens"))
    assert chips(driver) == ["Attached: notes.txt, 230 bytes, 54 tokens"]
    driver.chat("What is it about? [tokens 4]")
    assert chips(driver) == []
    asked = driver.session.messages[0].message.text
    assert asked.startswith("What is it about? [tokens 4]\n\nFile `notes.txt`:\n\n```txt\nA fox")
    view = driver.window.transcript.views[0]
    assert view.text.toPlainText() == "What is it about? [tokens 4]"
    assert driver.session.title == "What is it about? [tokens 4]"
    toggle = view.findChild(QAbstractButton, f"attached_toggle_{view.stored.id}_0")
    assert toggle.text() == "notes.txt"
    toggle.click()
    assert "A fox finds a lantern." in view.findChild(object, f"attached_text_{view.stored.id}_0").toPlainText()


def test_files_are_pasted_and_dropped_into_the_field_and_text_still_is_text(driver, notes):
    edit = driver.window.composer.edit
    assert edit.canInsertFromMimeData(mime(notes))
    edit.insertFromMimeData(mime(notes))
    assert len(chips(driver)) == 1
    assert driver.window.composer.text == ""
    text = QMimeData()
    text.setText("plain")
    edit.insertFromMimeData(text)
    assert driver.window.composer.text == "plain"
    assert not drop(driver.window, text)


def test_a_file_alone_can_be_sent_and_gives_its_name_to_the_chat(driver, notes):
    driver.window.actions_.attach.trigger()
    dialog = driver.find("attach_dialog", QFileDialog)
    dialog.filesSelected.emit([str(notes)])
    dialog.close()
    assert driver.window.actions_.send.isEnabled()
    driver.click("send")
    driver.until_idle()
    assert driver.session.title == "notes.txt"
    assert len(driver.session.messages) == 2


def test_a_file_is_taken_away_again(driver, notes):
    drop(driver.window, mime(notes))
    driver.until(lambda: chips(driver)[0].endswith("tokens"))
    button = driver.find("attachment_remove_0", QAbstractButton)
    assert button.accessibleName() == "Do not attach notes.txt"
    button.click()
    assert chips(driver) == []
    assert not driver.find("send").isEnabled()


def test_what_is_refused_is_said_in_the_notice(driver, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n")
    drop(driver.window, mime(path))
    assert driver.find("notice_message", QLabel).text() == "“picture.png” is not UTF-8 text."
    assert chips(driver) == []
    long = tmp_path / "long.txt"
    long.write_text("word " * 5000)
    drop(driver.window, mime(long))
    driver.until(lambda: chips(driver) == [])
    assert "4,096" in driver.find("notice_message", QLabel).text()


def test_files_stay_when_a_message_cannot_be_sent(driver, notes, monkeypatch):
    drop(driver.window, mime(notes))
    monkeypatch.setattr(driver.session, "send", lambda _: False)
    driver.say("Why?")
    assert driver.window.composer.text == "Why?"
    assert len(chips(driver)) == 1
    assert driver.session.state is ChatState.IDLE
