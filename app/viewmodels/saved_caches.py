"""What the engine is told of the caches that it keeps on disk: where, how many bytes, and for which conversations."""

from pathlib import Path

from PySide6.QtCore import QObject

from app.engine.protocol import KeepCaches
from app.store.store import Store
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.settings_model import SettingsModel

_GB = 10**9


class SavedCaches(QObject):
    """Tells every engine process as it starts, and again when the bound is set anew.

    The conversations that there are go with it: the files of others are deleted, so that a deletion of which no engine
    heard is made up for.
    """

    def __init__(
        self, engine: EngineClient, store: Store, settings: SettingsModel, folder: Path, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._store = store
        self._settings = settings
        self._folder = folder
        self._told_gb = settings.settings.saved_caches_gb
        engine.started_up.connect(self._tell)
        settings.changed.connect(self._follow)

    def _follow(self) -> None:
        if self._settings.settings.saved_caches_gb != self._told_gb:
            self._tell()

    def _tell(self) -> None:
        self._told_gb = self._settings.settings.saved_caches_gb
        chat_ids = tuple(chat_id(conversation.id) for conversation in self._store.conversations())
        self._engine.send(KeepCaches(str(self._folder), self._told_gb * _GB, chat_ids))


def chat_id(conversation_id: int) -> str:
    """Return what the engine calls a conversation."""
    return f"chat-{conversation_id}"
