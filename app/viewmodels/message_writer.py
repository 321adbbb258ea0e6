"""Brings messages into the store, and holds on to them while the store cannot take them."""

import logging
from collections.abc import Iterable

from PySide6.QtCore import QObject, QTimer, Signal

from app.errors import NibbleError
from app.store.store import GoneError, Store, StoredMessage

RETRY_INTERVAL_MS = 1000
"""What the store refused is tried again after so long: each try may wait for another program."""
CLOSE_TRIES = 10
"""At the end another program is waited for longer: so often as long as the store waits for it."""

_log = logging.getLogger(__name__)


class MessageWriter(QObject):
    """Stores the latest version of messages that are in the store already.

    At once: of a growing reply, a crash loses what came since the last version. What the store refuses waits in memory
    and is tried again until it is taken.
    """

    failed = Signal(str, str, str)
    """The store began to refuse: message, hint, "". Told once, until it takes messages again."""

    def __init__(self, store: Store, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._store = store
        self._waiting: dict[int, StoredMessage] = {}
        self._refused = False
        self._retry = QTimer(self, interval=RETRY_INTERVAL_MS, singleShot=True)
        self._retry.timeout.connect(self.flush)

    def note(self, message: StoredMessage) -> None:
        """Store this version of a message, or have it tried again where the store refuses just now."""
        self._waiting[message.id] = message
        if not self._retry.isActive():
            self.flush()

    def flush(self) -> None:
        """Store what waits, now."""
        self._retry.stop()
        try:
            for message in tuple(self._waiting.values()):
                self._store_one(message)
            self._refused = False
        except NibbleError as error:
            self._retry.start()
            if not self._refused:
                self._refused = True
                _log.warning("%s", error)
                self.failed.emit(error.message, error.hint, "")

    def close(self) -> None:
        """Store what waits, for the last time; what the store refuses to the end is lost."""
        for _ in range(CLOSE_TRIES):
            self.flush()
            if not self._waiting:
                break
        else:
            _log.error("%d messages could not be stored", len(self._waiting))
        self._retry.stop()

    def latest(self, messages: Iterable[StoredMessage]) -> list[StoredMessage]:
        """Return `messages` as they were last noted, where they are newer here than in the store."""
        return [self._waiting.get(message.id, message) for message in messages]

    def _store_one(self, message: StoredMessage) -> None:
        try:
            self._store.update_message(
                message.id,
                text=message.message.text,
                state=message.state,
                figures=message.figures,
                reasoning_s=message.reasoning_s,
            )
        except GoneError:
            _log.info("message %d was deleted before it was stored", message.id)
        del self._waiting[message.id]
