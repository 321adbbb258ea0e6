"""The licences of all that Nibble is made of."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QListWidget, QPlainTextEdit, QSplitter, QVBoxLayout, QWidget

from app.resources import BundledPart
from app.ui.close_box import CloseBox
from app.ui.theme import GAP, WIDE, SubtleLabel, code_font

ABOUT = (
    "Nibble itself is under the Apache License 2.0. The app holds these works of others, with thanks. Qt may be "
    "replaced with your own build: its entry says how."
)


class LicencesDialog(QDialog):
    """The parts at the left, the text of the chosen one at the right."""

    def __init__(self, parts: Sequence[BundledPart], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("licences_dialog")
        self.setAccessibleName("Licences")
        self.setWindowTitle("Licences")
        self._parts = parts
        about = SubtleLabel(ABOUT)
        about.setObjectName("licences_about")
        self.list = QListWidget()
        self.list.setObjectName("licences_list")
        self.list.setAccessibleName("Parts")
        self.list.addItems([f"{part.name} {part.version}".rstrip() for part in parts])
        self.text = QPlainTextEdit()
        self.text.setObjectName("licences_text")
        self.text.setAccessibleName("Licence")
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setFont(code_font())
        split = QSplitter(Qt.Orientation.Horizontal)
        split.setObjectName("licences_split")
        split.setChildrenCollapsible(False)
        split.addWidget(self.list)
        split.addWidget(self.text)
        split.setStretchFactor(1, 1)
        split.setSizes([220, 620])
        column = QVBoxLayout(self)
        column.setContentsMargins(WIDE, WIDE, WIDE, WIDE)
        column.setSpacing(GAP)
        column.addWidget(about)
        column.addWidget(split, 1)
        column.addWidget(CloseBox(self, "licences"))
        self.resize(920, 600)
        self.list.currentRowChanged.connect(self._show)
        self.list.setCurrentRow(0)

    def _show(self, row: int) -> None:
        part = self._parts[row]
        self.text.setPlainText(f"{self.list.item(row).text()}\n{part.licence}\n\n{part.text}")
