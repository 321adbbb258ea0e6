"""The conversations of the store as a Qt list, newest first, or those that a search finds."""

from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from app.store.store import Conversation, Store

CONVERSATION_ROLE = int(Qt.ItemDataRole.UserRole)
"""The Conversation of a row."""


class ConversationList(QAbstractListModel):
    """Reads the store; `refresh` reads it again."""

    def __init__(self, store: Store, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._store = store
        self._search = ""
        self._rows: list[Conversation] = store.conversations()

    @property
    def search_text(self) -> str:
        """What the list is narrowed to; "" shows all conversations."""
        return self._search

    def search(self, text: str) -> None:
        """Show the conversations whose title or messages hold `text`."""
        self._search = text.strip()
        self.refresh()

    def refresh(self) -> None:
        """Read the store again."""
        rows = self._store.search(self._search) if self._search else self._store.conversations()
        if rows == self._rows:
            return
        if [c.id for c in rows] == [c.id for c in self._rows]:
            self._rows = rows
            self.dataChanged.emit(self.index(0), self.index(len(rows) - 1))
            return
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def conversation(self, row: int) -> Conversation:
        """Return the conversation of a row."""
        return self._rows[row]

    def row_of(self, conversation_id: int) -> int | None:
        """Return the row of a conversation, None where it is not listed."""
        return next((row for row, c in enumerate(self._rows) if c.id == conversation_id), None)

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = QModelIndex()) -> int:  # noqa: B008
        """Return the number of conversations listed."""
        return 0 if parent.isValid() else len(self._rows)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the title, or the Conversation itself."""
        if not index.isValid():
            return None
        conversation = self._rows[index.row()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole):
            return conversation.title
        return conversation if role == CONVERSATION_ROLE else None
