"""Where file dialogs open, and which keys answer a question."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QFileDialog, QMessageBox, QPushButton, QWidget

from app.ui import prompts

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints")  # the offscreen plugin's own remark


@pytest.fixture
def parent(qtbot):
    made = QWidget()
    qtbot.addWidget(made)
    yield made
    for dialog in made.findChildren(QDialog):
        dialog.close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home in which a session begins."""
    monkeypatch.setattr(prompts, "_last_folder", prompts.Path())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)  # it may say where the documents are
    return tmp_path


ASKS = {
    "folder": lambda parent: prompts.ask_folder(parent, print),
    "text": lambda parent: prompts.ask_text_file(parent, print),
    "attachments": lambda parent: prompts.ask_attachments(parent, print),
    "export": lambda parent: prompts.ask_export_path(parent, "Export", "figures", print),
}


def opened(parent: QWidget, ask: str) -> QFileDialog:
    ASKS[ask](parent)
    return parent.findChildren(QFileDialog)[-1]


def folder_of(parent: QWidget, ask: str) -> str:
    return opened(parent, ask).directory().path()


def test_files_are_opened_from_home_and_written_to_the_documents(parent, home):
    (home / "Documents").mkdir()
    assert {ask: folder_of(parent, ask) for ask in ASKS} == {
        "folder": str(home),
        "text": str(home),
        "attachments": str(home),
        "export": str(home / "Documents"),
    }


def test_files_are_written_to_home_where_there_are_no_documents(parent, home):
    dialog = opened(parent, "export")
    assert dialog.directory().path() == str(home)
    assert dialog.selectedFiles() == [str(home / "figures.csv")]


def test_the_folder_that_was_used_last_is_where_the_next_dialog_opens(parent, home):
    models = home / "models"
    (models / "a").mkdir(parents=True)
    dialog = opened(parent, "folder")
    dialog.selectFile(str(models / "a"))
    dialog.accept()
    assert {ask: folder_of(parent, ask) for ask in ASKS} == dict.fromkeys(ASKS, str(models))


def test_a_folder_that_is_gone_is_not_where_the_next_dialog_opens(parent, home):
    prompts._remember_folder([str(home / "gone" / "a.csv")])
    assert folder_of(parent, "text") == str(home)


@pytest.mark.parametrize("key", [Qt.Key.Key_Escape, Qt.Key.Key_Return])
def test_escape_and_return_both_cancel_a_question(parent, qtbot, key):
    done = []
    prompts.confirm(parent, "confirm_dialog", "Delete it?", "It is gone then.", "Delete", lambda: done.append("yes"))
    prompts.ask_shorten(parent, lambda: done.append("new"), lambda: done.append("edit"))
    boxes = parent.findChildren(QMessageBox)
    assert len(boxes) == 2
    for box in boxes:
        cancel = box.findChild(QPushButton, f"{box.objectName()}_cancel")
        assert box.escapeButton() is cancel
        assert box.defaultButton() is cancel
        assert box.testOption(QMessageBox.Option.DontUseNativeDialog)  # in a Mac's own, Esc would do nothing
        qtbot.keyClick(box, key)
        assert not box.isVisible()
    assert done == []
