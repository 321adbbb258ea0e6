"""Quiet lines above the transcript: what the starter is, and which model a chat was written with."""

from html import escape
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPaintEvent, QPalette
from PySide6.QtWidgets import QFrame, QHBoxLayout, QWidget

from app.ui.controls import rounded
from app.ui.theme import GAP, SubtleLabel, mix
from app.viewmodels.chat_session import ChatSession
from app.viewmodels.open_model import OpenModel
from app.viewmodels.plain_tooltip import plain_tooltip

STARTER_TEXT = (
    'The starter is a tiny model for trying Nibble out; do not trust what it says. <a href="get">Get a real model…</a>'
)
_BY_KEYS = Qt.TextInteractionFlag.LinksAccessibleByKeyboard


class QuietNote(QFrame):
    """A sentence with a link that does something, on a quiet background."""

    link_followed = Signal()

    def __init__(self, name: str, accessible_name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(f"{name}_note")
        self.setAccessibleName(accessible_name)
        self._text = SubtleLabel(factor=0.92)
        self._text.setObjectName(f"{name}_text")
        self._text.setTextFormat(Qt.TextFormat.RichText)  # for the link: whatever is not ours is escaped
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.LinksAccessibleByMouse | _BY_KEYS)
        self._text.linkActivated.connect(self.link_followed)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, GAP, 12, GAP)
        row.addWidget(self._text)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw a quiet background."""
        palette = self.palette()
        rounded(self, mix(palette.color(QPalette.ColorRole.Base), palette.color(QPalette.ColorRole.Text), 0.045))


class StarterNote(QuietNote):
    """Says plainly what the starter is, while it is the model; its link is for a real one."""

    def __init__(self, model: OpenModel, parent: QWidget | None = None) -> None:
        super().__init__("starter", "About the starter model", parent)
        self._model = model
        self._text.setText(STARTER_TEXT)
        self._text.setToolTip("27.8M parameters. File, Models… leads to one that gives real answers.")
        model.changed.connect(self._show)
        self._show()

    def _show(self) -> None:
        self.setVisible(self._model.is_starter)


class ChatModelNote(QuietNote):
    """Says that the open chat was written with another model than the one that is open, and offers that one."""

    model_asked = Signal(str)
    """Model folder."""

    def __init__(self, session: ChatSession, model: OpenModel, parent: QWidget | None = None) -> None:
        super().__init__("chat_model", "Model of this chat", parent)
        self._session = session
        self._model = model
        self.link_followed.connect(lambda: self.model_asked.emit(session.other_model))
        session.conversation_changed.connect(self._show)
        model.changed.connect(self._show)
        self._show()

    def _show(self) -> None:
        path = self._session.other_model
        if path:
            name = escape(Path(path).name)
            self._text.setText(
                f'This chat was written with {name}. <a href="open">Open {name}</a>, or go on with '
                f"{escape(self._model.title)}."
            )
            self._text.setToolTip(plain_tooltip(path))
        self.setVisible(bool(path))
