"""The conversations of the store as a Qt list under headings: pinned, then by date; or those that a search finds."""

from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from app.store.store import ListedConversation, Store
from app.viewmodels.date_groups import grouped, when
from app.viewmodels.plain_tooltip import plain_tooltip

CONVERSATION_ROLE = int(Qt.ItemDataRole.UserRole)
"""The ListedConversation of a row; None for a heading."""


class ConversationList(QAbstractListModel):
    """Reads the store; `refresh` reads it again. Headings are rows that can be neither chosen nor reached by keys."""

    def __init__(self, store: Store, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._store = store
        self._search = ""
        self._hidden: frozenset[int] = frozenset()
        self._rows: list[ListedConversation | str] = grouped(store.listed())

    @property
    def search_text(self) -> str:
        """What the list is narrowed to; "" shows all conversations."""
        return self._search

    @property
    def conversations(self) -> list[ListedConversation]:
        """All conversations listed, without the headings."""
        return [row for row in self._rows if isinstance(row, ListedConversation)]

    def search(self, text: str) -> None:
        """Show the conversations whose title or messages hold `text`."""
        self._search = text.strip()
        self.refresh()

    def hide(self, conversation_ids: frozenset[int]) -> None:
        """Leave these conversations out, though the store has them."""
        self._hidden = conversation_ids
        self.refresh()

    def refresh(self) -> None:
        """Read the store again."""
        found = self._store.listed(self._search)
        rows = grouped([c for c in found if c.id not in self._hidden] if self._hidden else found)
        if rows == self._rows:
            return
        if len(rows) == len(self._rows) and all(map(_is_same, rows, self._rows)):
            self._rows = rows
            self.dataChanged.emit(self.index(0), self.index(len(rows) - 1))
            return
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def conversation(self, row: int) -> ListedConversation | None:
        """Return the conversation of a row, None where that is a heading."""
        found = self._rows[row]
        return found if isinstance(found, ListedConversation) else None

    def row_of(self, conversation_id: int) -> int | None:
        """Return the row of a conversation, None where it is not listed."""
        rows = enumerate(self._rows)
        return next((i for i, row in rows if isinstance(row, ListedConversation) and row.id == conversation_id), None)

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = QModelIndex()) -> int:  # noqa: B008
        """Return the number of conversations and headings."""
        return 0 if parent.isValid() else len(self._rows)

    def flags(self, index: QModelIndex | QPersistentModelIndex) -> Qt.ItemFlag:
        """Return what can be done with a row: nothing with a heading."""
        if not index.isValid() or isinstance(self._rows[index.row()], str):
            return Qt.ItemFlag.NoItemFlags
        return super().flags(index) | Qt.ItemFlag.ItemNeverHasChildren

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the title or heading, when the conversation was written in, or the conversation itself."""
        if not index.isValid():
            return None
        row = self._rows[index.row()]
        if isinstance(row, str):
            return row if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole) else None
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return row.title
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tooltip(f"{row.title}\n{when(row.updated_at)}")
        if role == Qt.ItemDataRole.AccessibleDescriptionRole:
            return f"{'Pinned. ' if row.is_pinned else ''}{when(row.updated_at)}"
        return row if role == CONVERSATION_ROLE else None


def _is_same(one: ListedConversation | str, other: ListedConversation | str) -> bool:
    """Tell whether two rows are the same heading, or the same conversation if perhaps changed."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return one.id == other.id
