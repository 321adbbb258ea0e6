"""Conversations that were deleted but can still be brought back."""

import logging

from PySide6.QtCore import QObject, QTimer, Signal

from app.errors import NibbleError
from app.viewmodels.chat_session import ChatSession
from app.viewmodels.conversation_list import ConversationList

UNDO_MS = 10_000
"""How long a deletion can be undone."""

_log = logging.getLogger(__name__)


class Deletions(QObject):
    """Takes conversations out of the list at once, and out of the store when the time for undoing is over.

    Deletions in quick succession share one time and are undone together. A program that crashes in between has deleted
    nothing.
    """

    offered = Signal(str)
    """What was deleted, in words, and can be undone now."""
    ended = Signal()
    """Nothing is left to be undone."""

    def __init__(self, session: ChatSession, conversations: ConversationList, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._conversations = conversations
        self._waiting: list[int] = []
        self._was_open: int | None = None
        self._timer = QTimer(self, interval=UNDO_MS, singleShot=True)
        self._timer.timeout.connect(self.finish)

    @property
    def can_undo(self) -> bool:
        """Whether a deletion waits."""
        return bool(self._waiting)

    def delete(self, conversation_id: int, title: str) -> None:
        """Take a conversation out of sight; a reply that it is getting is stopped, and what was written kept."""
        if conversation_id in self._waiting:
            return
        is_open = self._session.conversation
        if is_open is not None and is_open.id == conversation_id:
            self._was_open = conversation_id
        self._waiting.append(conversation_id)
        self._hide()
        self._session.put_aside(conversation_id)
        self._timer.start()
        self.offered.emit(
            f"“{title}” was deleted." if len(self._waiting) == 1 else f"{len(self._waiting)} chats were deleted."
        )

    def undo(self) -> None:
        """Bring back what waits, each to its place, and open what was open."""
        if not self._waiting:
            return
        opened = self._was_open
        self._reset()
        if opened is not None and self._session.conversation is None:
            self._session.open(opened)
        self.ended.emit()

    def finish(self) -> None:
        """Delete for good what waits. Raises NibbleError where the store refuses; that conversation is listed again."""
        waiting = list(self._waiting)
        if not waiting:
            return
        try:
            for conversation_id in waiting:
                self._session.delete(conversation_id)
        finally:
            self._reset()
            self.ended.emit()

    def close(self) -> None:
        """Delete for good what waits, at the end of the program."""
        try:
            self.finish()
        except NibbleError as error:
            _log.warning("a deleted chat stays: %s", error)

    def _reset(self) -> None:
        self._timer.stop()
        self._waiting.clear()
        self._was_open = None
        self._hide()

    def _hide(self) -> None:
        self._conversations.hide(frozenset(self._waiting))
