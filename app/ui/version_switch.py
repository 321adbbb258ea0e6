"""The way between the versions of a message: ‹ 2 of 3 ›."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QWidget

from app.ui.controls import SignButton
from app.ui.theme import SubtleLabel
from app.viewmodels.versions import Versions


class VersionSwitch(QWidget):
    """Shows which version is open and goes to the one before or after it; hidden where there is one only."""

    chosen = Signal(int)
    """The message id of another version."""

    def __init__(self, message_id: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._versions: Versions | None = None
        self._reason = ""
        self._previous = SignButton("left", f"previous_version_{message_id}", "Previous version of this message")
        self._previous.clicked.connect(self._choose_previous)
        self._next = SignButton("right", f"next_version_{message_id}", "Next version of this message")
        self._next.clicked.connect(self._choose_next)
        self._label = SubtleLabel(factor=0.92)
        self._label.setObjectName(f"version_{message_id}")
        self._label.setAccessibleName("Version")
        self._label.setWordWrap(False)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        for part in (self._previous, self._label, self._next):
            row.addWidget(part)
        self.hide()

    def show_versions(self, versions: Versions | None) -> None:
        """Show which version of how many is open; None where there is one only."""
        self._versions = versions
        self.setVisible(versions is not None)
        if versions is not None:
            self._label.setText(versions.text)
            self._enable()

    def show_reason(self, reason: str) -> None:
        """Say why no other version can be opened now; "" where one can."""
        self._reason = reason
        self._enable()

    def _enable(self) -> None:
        if self._versions is not None:
            self._previous.set_reason(self._reason or ("" if self._versions.previous_id else "This is the first."))
            self._next.set_reason(self._reason or ("" if self._versions.next_id else "This is the last."))

    def _choose_previous(self) -> None:
        if self._versions is not None and self._versions.previous_id is not None:
            self.chosen.emit(self._versions.previous_id)

    def _choose_next(self) -> None:
        if self._versions is not None and self._versions.next_id is not None:
            self.chosen.emit(self._versions.next_id)
