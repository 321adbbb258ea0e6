"""The list of conversations: search, choose, rename, delete."""

from datetime import UTC, datetime

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPalette
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QLineEdit,
    QListView,
    QMenu,
    QStackedLayout,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from app.store.store import Conversation
from app.ui.controls import SignButton
from app.ui.scroll_bar import quieten
from app.ui.theme import GAP, SubtleLabel, accent, mix, scaled_font, subtle
from app.viewmodels.conversation_list import CONVERSATION_ROLE, ConversationList


class Sidebar(QWidget):
    """Shows the conversations; what is to be done with one is told by signals."""

    new_chat_asked = Signal()
    opened = Signal(int)
    """Conversation id."""
    rename_asked = Signal(int)
    delete_asked = Signal(int)

    def __init__(self, conversations: ConversationList, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sidebar")
        self.setAccessibleName("Conversations")
        self._conversations = conversations
        self._open_id: int | None = None
        new_chat = SignButton("plus", "new_chat", "Start a new chat", text="New Chat")
        new_chat.clicked.connect(self.new_chat_asked)
        self.search = QLineEdit()
        self.search.setObjectName("search")
        self.search.setAccessibleName("Search conversations")
        self.search.setPlaceholderText("Search")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(conversations.search)
        self.list = QListView()
        self.list.setObjectName("conversation_list")
        self.list.setAccessibleName("Conversations")
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setModel(conversations)
        self.list.setItemDelegate(_ConversationDelegate(self.list))
        self.list.setLayoutMode(QListView.LayoutMode.Batched)  # thousands of rows take no pause
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.viewport().setAutoFillBackground(False)
        quieten(self.list)
        self.list.clicked.connect(self._open_index)
        self.list.activated.connect(self._open_index)
        self.list.customContextMenuRequested.connect(self._show_menu)
        self._empty = SubtleLabel()
        self._empty.setObjectName("conversations_empty")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignHCenter)

        pages = QWidget()
        self._pages = QStackedLayout(pages)
        self._pages.addWidget(self.list)
        self._pages.addWidget(self._empty)
        column = QVBoxLayout(self)
        column.setContentsMargins(GAP, GAP, GAP, GAP)
        column.setSpacing(GAP)
        column.addWidget(new_chat)
        column.addWidget(self.search)
        column.addWidget(pages, 1)
        conversations.modelReset.connect(self._show_rows)
        self._show_rows()

    def show_open(self, conversation_id: int | None) -> None:
        """Mark the conversation that is open."""
        self._open_id = conversation_id
        self._mark()

    def _show_rows(self) -> None:
        if self._conversations.rowCount():
            self._pages.setCurrentWidget(self.list)
        else:
            found = (
                "No conversation holds these words." if self._conversations.search_text else "Your chats appear here."
            )
            self._empty.setText(found)
            self._pages.setCurrentWidget(self._empty)
        self._mark()

    def _mark(self) -> None:
        row = None if self._open_id is None else self._conversations.row_of(self._open_id)
        if row is None:
            self.list.setCurrentIndex(QModelIndex())
            self.list.clearSelection()
        else:
            self.list.setCurrentIndex(self._conversations.index(row))

    def _open_index(self, index: QModelIndex) -> None:
        self.opened.emit(self._conversations.conversation(index.row()).id)

    def _show_menu(self, position: QPoint) -> None:
        index = self.list.indexAt(position)
        if not index.isValid():
            return
        conversation_id = self._conversations.conversation(index.row()).id
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Rename…").triggered.connect(lambda: self.rename_asked.emit(conversation_id))
        menu.addAction("Delete…").triggered.connect(lambda: self.delete_asked.emit(conversation_id))
        menu.popup(self.list.viewport().mapToGlobal(position))


class _ConversationDelegate(QStyledItemDelegate):
    """Draws a title and, below it, when the conversation was last written in."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(120, 2 * option.fontMetrics.lineSpacing() + 14)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        conversation: Conversation = index.data(CONVERSATION_ROLE)
        area: QRect = option.rect.adjusted(0, 1, 0, -1)
        palette: QPalette = option.palette
        state: QStyle.StateFlag = option.state
        window = palette.color(QPalette.ColorRole.Window)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        if state & QStyle.StateFlag.State_Selected:
            painter.setBrush(mix(window, accent(palette), 0.28))
            painter.drawRoundedRect(area, 7, 7)
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.setBrush(mix(window, palette.color(QPalette.ColorRole.WindowText), 0.06))
            painter.drawRoundedRect(area, 7, 7)
        text = area.adjusted(10, 5, -8, -5)
        metrics = option.fontMetrics
        painter.setFont(option.font)
        painter.setPen(palette.color(QPalette.ColorRole.WindowText))
        title = metrics.elidedText(conversation.title, Qt.TextElideMode.ElideRight, text.width())
        painter.drawText(text, int(Qt.AlignmentFlag.AlignTop), title)
        painter.setFont(scaled_font(option.font, 0.88))
        painter.setPen(subtle(palette))
        painter.drawText(text, int(Qt.AlignmentFlag.AlignBottom), when(conversation.updated_at))
        painter.restore()


def when(written_at: str, now: datetime | None = None) -> str:
    """Say when something was written (UTC, ISO 8601), as seen from `now`: a time today, a date before."""
    moment = datetime.fromisoformat(written_at)
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone()
    today = (now or datetime.now(UTC)).astimezone().date()
    days = (today - moment.date()).days
    if days <= 0:
        return f"Today, {moment:%H:%M}"
    if days == 1:
        return f"Yesterday, {moment:%H:%M}"
    return f"{moment.day} {moment:%B}" + ("" if moment.year == today.year else f" {moment.year}")
