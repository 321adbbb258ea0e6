"""The conversation, message under message. It follows the end of the text only while the reader is there."""

from collections.abc import Mapping, Sequence

from PySide6.QtCore import QEvent, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QApplication, QFrame, QHBoxLayout, QPushButton, QScrollArea, QVBoxLayout, QWidget

from app.chat.message import Role
from app.store.store import StoredMessage
from app.ui.controls import SignButton
from app.ui.memory_note import MemoryNoteView
from app.ui.message_view import MessageView
from app.ui.scroll_bar import quieten
from app.ui.theme import GAP, WIDE
from app.viewmodels.versions import Versions

COLUMN_WIDTH = 760
MESSAGES_SHOWN = 20
"""Messages of an old conversation that are built at first, several screens of them: building all takes seconds."""
EARLIER_SHOWN = 50
"""Messages that every press of "Show earlier messages" adds."""
END_SLACK = 24
REVEAL_MARGIN = 80
SETTLE_MS = 300
"""So long after a place was scrolled to it is kept in sight while messages find their heights."""

Place = tuple[int, int]
"""A message's id, and which of the matches in it."""


class Transcript(QScrollArea):
    """Shows the messages of one conversation."""

    link_activated = Signal(QUrl)
    regenerate_asked = Signal()
    edit_asked = Signal(int)
    """Message id."""
    version_chosen = Signal(int)
    """Message id of another version."""
    content_changed = Signal()
    """Messages, or the text of one, are others than before."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("transcript")
        self.setAccessibleName("Conversation")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # the texts inside take Tab; their keys scroll
        quieten(self)
        self._messages: tuple[StoredMessage, ...] = ()
        self._views: dict[int, MessageView] = {}
        self._versions: Mapping[int, Versions] = {}
        self._reasons = ("", "")
        self._follows = True
        self._revealed: tuple[int, int | None] | None = None
        self._settled = QTimer(self, interval=SETTLE_MS, singleShot=True)
        self._settled.timeout.connect(self._forget_revealed)

        self._earlier = QPushButton("Show earlier messages")
        self._earlier.setObjectName("show_earlier")
        self._earlier.setAccessibleName("Show earlier messages")
        self._earlier.clicked.connect(self._show_earlier)
        self._column = QWidget()
        self._column.setMaximumWidth(COLUMN_WIDTH)
        self._stack = QVBoxLayout(self._column)
        self._stack.setContentsMargins(0, 0, 0, 0)
        self._stack.setSpacing(WIDE + GAP)
        self.memory_note = MemoryNoteView()
        """Stands below the last message."""
        self._stack.addWidget(self._earlier, 0, Qt.AlignmentFlag.AlignHCenter)
        self._stack.addWidget(self.memory_note)
        self._stack.addStretch(1)
        page = QWidget()
        row = QHBoxLayout(page)
        row.setContentsMargins(WIDE + GAP, WIDE, WIDE + GAP, WIDE)
        row.addStretch(1)
        row.addWidget(self._column, 100)
        row.addStretch(1)
        self.setWidget(page)
        page.setAutoFillBackground(False)
        self.viewport().setAutoFillBackground(False)

        self._to_end = SignButton("down", "jump_to_end", "Jump to the latest message", self, solid=True)
        self._to_end.clicked.connect(self.jump_to_end)
        self._to_end.hide()
        bar = self.verticalScrollBar()
        bar.rangeChanged.connect(self._keep_end)
        bar.valueChanged.connect(self._note_position)

    @property
    def views(self) -> tuple[MessageView, ...]:
        """The messages that are built, in order."""
        return tuple(self._views.values())

    @property
    def messages(self) -> tuple[StoredMessage, ...]:
        """All messages of the conversation, built or not."""
        return self._messages

    @property
    def first_in_sight(self) -> int:
        """The id of the first message of which anything can be seen; 0 where there is none."""
        top = self.verticalScrollBar().value()
        return next((stored_id for stored_id, view in self._views.items() if view.geometry().bottom() > top), 0)

    @property
    def follows_end(self) -> bool:
        """Whether new text scrolls the view."""
        return self._follows

    def show_messages(self, messages: Sequence[StoredMessage]) -> None:
        """Show a conversation from its end, the last messages first."""
        self._clear()
        self._messages = tuple(messages)
        for stored in self._messages[-MESSAGES_SHOWN:]:
            self._append(stored)
        self._earlier.setVisible(len(self._views) < len(self._messages))
        self._mark_last()
        self.jump_to_end()
        self.content_changed.emit()

    def add_message(self, stored: StoredMessage) -> None:
        """Show a new message at the end."""
        self._messages = (*self._messages, stored)
        self._append(stored)
        self._mark_last()
        if stored.message.role is Role.USER:
            self.jump_to_end()
        self.content_changed.emit()

    def change_message(self, stored: StoredMessage) -> None:
        """Show a later version of a message."""
        self._messages = tuple(stored if old.id == stored.id else old for old in self._messages)
        if (view := self._views.get(stored.id)) is not None:
            view.show_message(stored)
            self.content_changed.emit()

    def build_back_to(self, message_id: int) -> None:
        """Build earlier messages until this one is there."""
        while message_id not in self._views and len(self._views) < len(self._messages):
            self._show_earlier()

    def reveal(self, message_id: int, match: int | None = None) -> None:
        """Scroll to a message, or to a match in its text."""
        self.build_back_to(message_id)
        self._follows = False
        self._revealed = (message_id, match)
        self._scroll_to_revealed()
        self._settled.start()

    def show_versions(self, versions: Mapping[int, Versions]) -> None:
        """Show which messages have several versions."""
        self._versions = versions
        for stored_id, view in self._views.items():
            view.versions.show_versions(versions.get(stored_id))

    def show_reasons(self, not_to_ask: str, not_to_turn: str) -> None:
        """Say why no reply can be asked for, and why no other version can be opened; "" where they can."""
        if self._reasons != (not_to_ask, not_to_turn):
            self._reasons = (not_to_ask, not_to_turn)
            for view in self._views.values():
                view.show_reasons(*self._reasons)

    def jump_to_end(self) -> None:
        """Scroll to the end and stay there."""
        self._follows = True
        self._to_end.hide()
        self._keep_end()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the button to the end in its place."""
        super().resizeEvent(event)
        size = self._to_end.sizeHint()
        self._to_end.resize(size)
        self._to_end.move((self.viewport().width() - size.width()) // 2, self.height() - size.height() - GAP)
        self._keep_end()

    def _append(self, stored: StoredMessage) -> None:
        view = self._make(stored)
        self._views[stored.id] = view
        self._stack.insertWidget(self._stack.count() - 2, view)

    def _make(self, stored: StoredMessage) -> MessageView:
        view = MessageView(stored)
        view.setObjectName(f"message_{stored.id}")
        view.link_activated.connect(self.link_activated)
        view.regenerate_asked.connect(self.regenerate_asked)
        view.edit_asked.connect(lambda: self.edit_asked.emit(stored.id))
        view.version_chosen.connect(self.version_chosen)
        view.rendered.connect(self._settle)
        view.versions.show_versions(self._versions.get(stored.id))
        view.show_reasons(*self._reasons)
        return view

    def _show_earlier(self) -> None:
        hidden = len(self._messages) - len(self._views)
        batch = self._messages[max(0, hidden - EARLIER_SHOWN) : hidden]
        made = {stored.id: self._make(stored) for stored in batch}
        for i, view in enumerate(made.values()):
            self._stack.insertWidget(1 + i, view)
        self._views = made | self._views
        self._earlier.setVisible(len(self._views) < len(self._messages))

    def _clear(self) -> None:
        for view in self._views.values():
            self._stack.removeWidget(view)
            view.hide()
            view.deleteLater()
        self._views = {}

    def _mark_last(self) -> None:
        end = next(reversed(self._views), None)
        for stored_id, view in self._views.items():
            view.set_last(stored_id == end)

    def _scroll_to_revealed(self) -> None:
        if self._revealed is None:
            return
        message_id, index = self._revealed
        view, page = self._views.get(message_id), self.widget()
        if view is None or page is None:
            return
        if index is None:
            bottom = view.mapTo(page, view.rect().bottomLeft())
            self.ensureVisible(bottom.x(), bottom.y(), 0, REVEAL_MARGIN)
        elif (area := view.match_area(index)).isValid():
            at = view.mapTo(page, area.center())
            self.ensureVisible(at.x(), at.y(), 0, REVEAL_MARGIN)

    def _settle(self, view: MessageView) -> None:
        """Give a text that grew its room, and scroll, before it is painted, so that it is painted once."""
        for widget in (view, self._column, self.widget(), self.viewport()):
            QApplication.sendPostedEvents(widget, QEvent.Type.LayoutRequest)

    def _forget_revealed(self) -> None:
        self._revealed = None

    def _keep_end(self) -> None:
        if self._revealed is not None:
            self._scroll_to_revealed()
        elif self._follows:
            bar = self.verticalScrollBar()
            bar.setValue(bar.maximum())

    def _note_position(self, value: int) -> None:
        self._follows = value >= self.verticalScrollBar().maximum() - END_SLACK
        self._to_end.setVisible(not self._follows)


def in_column(widget: QWidget, below: int = 0) -> QHBoxLayout:
    """Return `widget` in the transcript's column, with so much room below it."""
    widget.setMaximumWidth(COLUMN_WIDTH)
    row = QHBoxLayout()
    row.setContentsMargins(WIDE + GAP, 0, WIDE + GAP, below)
    row.addStretch(1)
    row.addWidget(widget, 100)
    row.addStretch(1)
    return row
