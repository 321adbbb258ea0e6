"""The list of conversations: search, choose, pin, rename, delete."""

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent, QPainter, QPalette, QPen
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QListView,
    QMenu,
    QStackedLayout,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from app.ui.controls import SignButton
from app.ui.scroll_bar import quieten
from app.ui.search_field import SearchField
from app.ui.theme import GAP, SubtleLabel, accent, mix, scaled_font, subtle
from app.viewmodels.conversation_list import CONVERSATION_ROLE, ConversationList


class Sidebar(QWidget):
    """Shows the conversations; what is to be done with one is told by signals."""

    new_chat_asked = Signal()
    opened = Signal(int)
    """Conversation id."""
    rename_asked = Signal(int)
    delete_asked = Signal(int)
    pin_asked = Signal(int)
    """To pin a conversation, or to unpin one that is pinned."""

    def __init__(self, conversations: ConversationList, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sidebar")
        self.setAccessibleName("Conversations")
        self._conversations = conversations
        self._open_id: int | None = None
        new_chat = SignButton("plus", "new_chat", "Start a new chat", text="New Chat")
        new_chat.clicked.connect(self.new_chat_asked)
        field = SearchField()
        self.search = field.edit
        self.search.setObjectName("search")
        self.search.setAccessibleName("Search conversations")
        self.search.textChanged.connect(conversations.search)
        self.list = ConversationView()
        self.list.setObjectName("conversation_list")
        self.list.setAccessibleName("Conversations")
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setAttribute(Qt.WidgetAttribute.WA_MacShowFocusRect, False)  # its row shows it
        self.list.setModel(conversations)
        self.list.setItemDelegate(_ConversationDelegate(self.list))
        self.list.setUniformItemSizes(True)
        self.list.setLayoutMode(QListView.LayoutMode.Batched)  # thousands of rows take no pause
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.viewport().setAutoFillBackground(False)
        quieten(self.list)
        self.list.clicked.connect(self._open_index)
        self.list.activated.connect(self._open_index)
        self.list.delete_asked.connect(self._delete_current)
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
        column.addWidget(field)
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
        if (conversation := self._conversations.conversation(index.row())) is not None:
            self.opened.emit(conversation.id)

    def _delete_current(self) -> None:
        index = self.list.currentIndex()
        if index.isValid() and (conversation := self._conversations.conversation(index.row())) is not None:
            self.delete_asked.emit(conversation.id)

    def _show_menu(self, position: QPoint) -> None:
        index = self.list.indexAt(position)
        conversation = self._conversations.conversation(index.row()) if index.isValid() else None
        if conversation is None:
            return
        conversation_id = conversation.id
        menu = QMenu(self)
        menu.setObjectName("conversation_menu")
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        pin = menu.addAction("Unpin" if conversation.is_pinned else "Pin")
        pin.triggered.connect(lambda: self.pin_asked.emit(conversation_id))
        menu.addAction("Rename…").triggered.connect(lambda: self.rename_asked.emit(conversation_id))
        menu.addAction("Delete").triggered.connect(lambda: self.delete_asked.emit(conversation_id))
        menu.popup(self.list.viewport().mapToGlobal(position))


class ConversationView(QListView):
    """The list itself: Return opens, Delete deletes; headings are passed over."""

    delete_asked = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Delete the current conversation with Delete or Backspace, open it with Return: Qt's lists do not on a Mac."""
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.delete_asked.emit()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if self.currentIndex().isValid():
                self.activated.emit(self.currentIndex())
        else:
            super().keyPressEvent(event)


class _ConversationDelegate(QStyledItemDelegate):
    """Draws titles and, smaller and in the secondary colour, headings. All rows are of one height."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(120, option.fontMetrics.lineSpacing() + 15)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        painter.save()
        if index.data(CONVERSATION_ROLE) is None:
            self._paint_heading(painter, option, index.data())
        else:
            self._paint_title(painter, option, index.data())
        painter.restore()

    def _paint_heading(self, painter: QPainter, option: QStyleOptionViewItem, heading: str) -> None:
        painter.setFont(scaled_font(option.font, 0.85, bold=True))
        palette = QPalette(option.palette)
        palette.setCurrentColorGroup(QPalette.ColorGroup.Active)  # a heading is a row that is disabled
        painter.setPen(subtle(palette))
        area: QRect = option.rect.adjusted(10, 0, -8, -5)
        painter.drawText(area, int(Qt.AlignmentFlag.AlignBottom | Qt.AlignmentFlag.AlignLeft), heading)

    def _paint_title(self, painter: QPainter, option: QStyleOptionViewItem, title: str) -> None:
        area: QRect = option.rect.adjusted(0, 1, 0, -1)
        palette: QPalette = option.palette
        state: QStyle.StateFlag = option.state
        window = palette.color(QPalette.ColorRole.Window)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        focused = bool(state & QStyle.StateFlag.State_HasFocus)
        painter.setPen(QPen(accent(palette), 1.5) if focused else Qt.PenStyle.NoPen)
        if state & QStyle.StateFlag.State_Selected:
            painter.setBrush(mix(window, accent(palette), 0.28))
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.setBrush(mix(window, palette.color(QPalette.ColorRole.WindowText), 0.06))
        painter.drawRoundedRect(area.adjusted(1, 0, -1, 0), 7, 7)
        text = area.adjusted(10, 0, -8, 0)
        painter.setFont(option.font)
        painter.setPen(palette.color(QPalette.ColorRole.WindowText))
        shown = option.fontMetrics.elidedText(title, Qt.TextElideMode.ElideRight, text.width())
        painter.drawText(text, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), shown)
