"""The files that go with the next message, each with its size, its tokens and a button to take it away."""

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPaintEvent, QPalette
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from app.ui.controls import SignButton, rounded
from app.ui.theme import TIGHT, SubtleLabel, TextLabel, mix
from app.viewmodels.attachments import Chip
from app.viewmodels.plain_tooltip import plain_tooltip

NAME_WIDTH = 220


class AttachmentChip(QFrame):
    """One file."""

    def __init__(self, chip: Chip, index: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(f"attachment_{index}")
        self.setAccessibleName(f"Attached: {chip.name}, {chip.detail}")
        self.setToolTip(plain_tooltip(f"{chip.name}\n{chip.detail}, as the open model's tokenizer counts them"))
        name = TextLabel()
        name.setText(name.fontMetrics().elidedText(chip.name, Qt.TextElideMode.ElideMiddle, NAME_WIDTH))
        detail = SubtleLabel(chip.detail, factor=0.92)
        detail.setObjectName(f"attachment_detail_{index}")
        detail.setWordWrap(False)
        self.remove = SignButton("close", f"attachment_remove_{index}", f"Do not attach {chip.name}")
        row = QHBoxLayout(self)
        row.setContentsMargins(10, 0, 2, 0)
        row.setSpacing(TIGHT * 2)
        row.addWidget(name)
        row.addWidget(detail)
        row.addStretch(1)
        row.addWidget(self.remove)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw a quiet background."""
        palette = self.palette()
        rounded(self, mix(palette.color(QPalette.ColorRole.Base), palette.color(QPalette.ColorRole.Text), 0.06))


class AttachmentChips(QWidget):
    """All files; hidden while there is none."""

    removed = Signal(int)
    """Index."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("attachments")
        self.setAccessibleName("Attached files")
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, TIGHT)
        self._column.setSpacing(TIGHT)
        self._chips: list[AttachmentChip] = []
        self.hide()

    def show_chips(self, chips: Sequence[Chip]) -> None:
        """Show these files."""
        for old in self._chips:
            self._column.removeWidget(old)
            old.hide()
            old.setParent(None)
            old.deleteLater()
        self._chips = [AttachmentChip(chip, i) for i, chip in enumerate(chips)]
        for i, made in enumerate(self._chips):
            made.remove.clicked.connect(lambda _=False, at=i: self.removed.emit(at))
            self._column.addWidget(made)
        self.setVisible(bool(chips))
