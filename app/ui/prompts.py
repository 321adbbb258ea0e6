"""Questions to the person. None of them blocks: each opens a dialog and calls back with the answer."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, QUrl
from PySide6.QtWidgets import (
    QDialog,
    QFileDialog,
    QInputDialog,
    QLineEdit,
    QMessageBox,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.ui.close_box import CloseBox
from app.ui.theme import code_font


def ask_folder(parent: QWidget, then: Callable[[str], None]) -> None:
    """Ask for a model folder."""
    dialog = QFileDialog(parent, "Open Model Folder")
    dialog.setObjectName("folder_dialog")
    dialog.setFileMode(QFileDialog.FileMode.Directory)
    dialog.setOption(QFileDialog.Option.ShowDirsOnly)
    dialog.setLabelText(QFileDialog.DialogLabel.Accept, "Open")
    dialog.fileSelected.connect(then)
    _open(dialog)


def ask_text_file(parent: QWidget, then: Callable[[Path], None]) -> None:
    """Ask for a file with text."""
    dialog = QFileDialog(parent, "Choose Text")
    dialog.setObjectName("text_dialog")
    dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
    dialog.setNameFilters(["Text (*.txt *.md)", "All files (*)"])
    dialog.setLabelText(QFileDialog.DialogLabel.Accept, "Choose")
    dialog.fileSelected.connect(lambda path: then(Path(path)))
    _open(dialog)


def ask_export_path(parent: QWidget, title: str, name: str, then: Callable[[Path], None]) -> None:
    """Ask where to write figures, as CSV or JSON; `name` is offered, with .csv."""
    dialog = QFileDialog(parent, title)
    dialog.setObjectName("export_dialog")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setNameFilters(["CSV for spreadsheets (*.csv)", "JSON (*.json)"])
    dialog.setDefaultSuffix("csv")
    dialog.filterSelected.connect(lambda chosen: dialog.setDefaultSuffix("json" if "json" in chosen else "csv"))
    dialog.selectFile(f"{name}.csv")
    dialog.fileSelected.connect(lambda path: then(Path(path)))
    _open(dialog)


def ask_title(parent: QWidget, title: str, then: Callable[[str], None]) -> None:
    """Ask for a conversation's new title."""
    dialog = QInputDialog(parent)
    dialog.setObjectName("rename_dialog")
    dialog.setWindowTitle("Rename Chat")
    dialog.setLabelText("Title")
    dialog.setTextValue(title)
    dialog.setOkButtonText("Rename")
    dialog.textValueSelected.connect(then)
    # Qt makes these parts; they are named as all controls are.
    for line in dialog.findChildren(QLineEdit):
        line.setObjectName("rename_title")
    for button, name in zip(dialog.findChildren(QPushButton), ("rename_yes", "rename_cancel"), strict=True):
        button.setObjectName(name)
    dialog.resize(380, dialog.sizeHint().height())
    _open(dialog)


def confirm(parent: QWidget, name: str, question: str, explanation: str, verb: str, then: Callable[[], None]) -> None:
    """Ask before something that cannot be undone, or that leaves the app."""
    dialog = QMessageBox(parent)
    dialog.setObjectName(name)
    dialog.setWindowTitle("Nibble")
    dialog.setTextFormat(Qt.TextFormat.PlainText)
    dialog.setText(question)
    dialog.setInformativeText(explanation)
    yes = dialog.addButton(verb, QMessageBox.ButtonRole.AcceptRole)
    yes.setObjectName(f"{name}_yes")
    no = dialog.addButton(QMessageBox.StandardButton.Cancel)
    no.setObjectName(f"{name}_cancel")
    dialog.setDefaultButton(no)
    dialog.buttonClicked.connect(lambda button: then() if button is yes else None)
    _open(dialog)


def confirm_delete(parent: QWidget, title: str, then: Callable[[], None]) -> None:
    """Ask before a conversation is deleted."""
    question = f"Delete “{title}”?"
    confirm(parent, "delete_dialog", question, "The chat and its messages cannot be brought back.", "Delete", then)


def confirm_link(parent: QWidget, url: QUrl, then: Callable[[], None]) -> None:
    """Show where a link in a message leads before it is followed: its text may say something else."""
    address = url.toString(QUrl.ComponentFormattingOption.FullyEncoded)
    confirm(parent, "link_dialog", "Open this address in your browser?", address, "Open", then)


def show_details(parent: QWidget, detail: str) -> None:
    """Show technical details, to be copied into a report."""
    dialog = QDialog(parent)
    dialog.setObjectName("details_dialog")
    dialog.setWindowTitle("Details")
    text = QPlainTextEdit(detail)
    text.setObjectName("details_text")
    text.setAccessibleName("Details")
    text.setReadOnly(True)
    text.setFont(code_font())
    column = QVBoxLayout(dialog)
    column.addWidget(text)
    column.addWidget(CloseBox(dialog, "details"))
    dialog.resize(640, 360)
    _open(dialog)


def _open(dialog: QDialog) -> None:
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()
