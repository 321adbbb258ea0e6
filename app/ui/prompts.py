"""Questions to the person. None of them blocks: each opens a dialog and calls back with the answer."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QStandardPaths, Qt, QUrl
from PySide6.QtWidgets import (
    QDialog,
    QFileDialog,
    QInputDialog,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app import __version__
from app.ui.close_box import CloseBox
from app.ui.theme import code_font

FILE_KINDS = {
    "csv": "CSV for spreadsheets (*.csv)",
    "json": "JSON (*.json)",
    "md": "Markdown (*.md)",
    "png": "PNG picture (*.png)",
}
"""What a file is called in a dialog, by its suffix."""
SESSION_KINDS = ("csv", "json", "md")
"""What a session's figures can be written as."""


_last_folder = Path()
"""Where the last file dialog of this session ended."""


def ask_folder(parent: QWidget, then: Callable[[str], None]) -> None:
    """Ask for a model folder."""
    dialog = QFileDialog(parent, "Open Model Folder")
    dialog.setObjectName("folder_dialog")
    dialog.setFileMode(QFileDialog.FileMode.Directory)
    dialog.setOption(QFileDialog.Option.ShowDirsOnly)
    dialog.setLabelText(QFileDialog.DialogLabel.Accept, "Open")
    dialog.fileSelected.connect(then)
    _open_files(dialog, _home())


def ask_text_file(parent: QWidget, then: Callable[[Path], None]) -> None:
    """Ask for a file with text."""
    dialog = QFileDialog(parent, "Choose Text")
    dialog.setObjectName("text_dialog")
    dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
    dialog.setNameFilters(["Text (*.txt *.md)", "All files (*)"])
    dialog.setLabelText(QFileDialog.DialogLabel.Accept, "Choose")
    dialog.fileSelected.connect(lambda path: then(Path(path)))
    _open_files(dialog, _home())


def ask_attachments(parent: QWidget, then: Callable[[list[Path]], None]) -> None:
    """Ask for text files to go with a message."""
    dialog = QFileDialog(parent, "Attach Text Files")
    dialog.setObjectName("attach_dialog")
    dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
    dialog.setLabelText(QFileDialog.DialogLabel.Accept, "Attach")
    dialog.filesSelected.connect(lambda paths: then([Path(path) for path in paths]))
    _open_files(dialog, _home())


def ask_export_path(
    parent: QWidget, title: str, name: str, then: Callable[[Path], None], kinds: Sequence[str] = ("csv", "json")
) -> None:
    """Ask where to write figures, as one of `kinds` (suffixes); `name` is offered, with the first of them."""
    filters = {FILE_KINDS[kind]: kind for kind in kinds}
    dialog = QFileDialog(parent, title)
    dialog.setObjectName("export_dialog")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setNameFilters(list(filters))
    dialog.setDefaultSuffix(kinds[0])
    dialog.filterSelected.connect(lambda chosen: dialog.setDefaultSuffix(filters[chosen]))
    dialog.fileSelected.connect(lambda path: then(Path(path)))
    documents = Path(QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation))
    _open_files(dialog, documents, f"{name}.{kinds[0]}")


def ask_title(parent: QWidget, title: str, then: Callable[[str], None]) -> None:
    """Ask for a conversation's new title."""
    dialog = QInputDialog(parent)
    dialog.setObjectName("rename_dialog")
    dialog.setWindowTitle("Rename Chat")
    dialog.setLabelText("Title")
    dialog.setTextValue(title)
    dialog.setOkButtonText("Rename")
    dialog.textValueSelected.connect(then)
    for label in dialog.findChildren(QLabel):
        label.setTextFormat(Qt.TextFormat.PlainText)
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
    for label in dialog.findChildren(QLabel):  # setTextFormat speaks of the first text alone
        label.setTextFormat(Qt.TextFormat.PlainText)
    yes = dialog.addButton(verb, QMessageBox.ButtonRole.AcceptRole)
    yes.setObjectName(f"{name}_yes")
    _add_cancel(dialog)
    dialog.buttonClicked.connect(lambda button: then() if button is yes else None)
    _open(dialog)


def confirm_delete_session(parent: QWidget, label: str, then: Callable[[], None]) -> None:
    """Ask before a session's figures are deleted."""
    question = f"Delete the figures of {label}?"
    confirm(parent, "delete_session_dialog", question, "They cannot be brought back. Chats stay.", "Delete", then)


def confirm_link(parent: QWidget, url: QUrl, then: Callable[[], None]) -> None:
    """Show where a link in a message leads before it is followed: its text may say something else."""
    address = url.toString(QUrl.ComponentFormattingOption.FullyEncoded)
    confirm(parent, "link_dialog", "Open this address in your browser?", address, "Open", then)


def ask_shorten(parent: QWidget, start_over: Callable[[], None], edit: Callable[[], None]) -> None:
    """Ask how a chat is to be made shorter: nothing is left out of one unasked."""
    dialog = QMessageBox(parent)
    dialog.setObjectName("shorten_dialog")
    dialog.setWindowTitle("Nibble")
    dialog.setTextFormat(Qt.TextFormat.PlainText)
    dialog.setText("Where should the chat go on?")
    dialog.setInformativeText(
        "In a new chat, with your last message and nothing before it. Or here, with that message edited. To leave out "
        "more, edit an earlier message by its pencil: what followed it stays as a version."
    )
    for name, text, then in (("new", "New Chat", start_over), ("edit", "Edit Message", edit)):
        button = dialog.addButton(text, QMessageBox.ButtonRole.AcceptRole)
        button.setObjectName(f"shorten_dialog_{name}")
        button.clicked.connect(then)
    _add_cancel(dialog)
    _open(dialog)


def confirm_update(parent: QWidget, version: str, then: Callable[[], None]) -> None:
    """Tell of a newer version, and offer its page."""
    question, explanation = f"Nibble {version} is out.", f"This is Nibble {__version__}. Its page has what is new."
    confirm(parent, "update_dialog", question, explanation, "Open Page", then)


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


def _add_cancel(dialog: QMessageBox) -> None:
    """Add a Cancel for Return and for Esc."""
    no = dialog.addButton(QMessageBox.StandardButton.Cancel)
    no.setObjectName(f"{dialog.objectName()}_cancel")
    dialog.setDefaultButton(no)
    dialog.setEscapeButton(no)
    # A button of a Mac's own alert has one key, and the default one's is Return; nor has it our size of text.
    dialog.setOption(QMessageBox.Option.DontUseNativeDialog)


def _home() -> Path:
    return Path(QStandardPaths.writableLocation(QStandardPaths.StandardLocation.HomeLocation))


def _open_files(dialog: QFileDialog, usual: Path, name: str = "") -> None:
    """Open it where the last one ended, or in the usual folder: the app that Finder starts works in "/"."""
    folders = (folder for folder in (_last_folder, usual, _home()) if folder != Path() and folder.is_dir())
    dialog.setDirectory(str(next(folders, _home())))
    if name:
        dialog.selectFile(name)
    dialog.filesSelected.connect(_remember_folder)
    _open(dialog)


def _remember_folder(paths: Sequence[str]) -> None:
    global _last_folder
    _last_folder = Path(paths[0]).parent


def _open(dialog: QDialog) -> None:
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()
