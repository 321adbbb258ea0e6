"""A chat session on a desk of its own: scripted engine, real store."""

from pathlib import Path

import pytest

from app.engine.protocol import Finished, Generate, Loaded, Token
from app.errors import NibbleError
from app.settings.schema import Settings
from app.store.store import MessageState, Store
from app.viewmodels.chat_session import ChatSession
from app.viewmodels.open_model import OpenModel
from app.viewmodels.settings_model import SettingsModel
from tests.chat_parts import FIGURES, MODEL, ScriptedEngine


class FullStore(Store):
    """Refuses the writes it is told to."""

    refused: frozenset[str] = frozenset()

    def add_message(self, conversation_id, message, state=MessageState.COMPLETE):
        if f"add {message.role}" in self.refused:
            raise NibbleError("disk full")
        return super().add_message(conversation_id, message, state)

    def update_message(self, message_id, **values):
        if "update" in self.refused:
            raise NibbleError("disk full")
        return super().update_message(message_id, **values)


class Desk:
    """A chat session with a scripted engine and a real store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = ScriptedEngine()
        self.store = FullStore(folder / "chats.sqlite3")
        self.settings = SettingsModel(Settings(), folder / "settings.json")
        self.model = OpenModel(self.engine, self.settings, Path("/starter"))
        self.session = ChatSession(self.engine, self.model, self.store, self.settings)
        self.failures: list[tuple[str, str, str]] = []
        for failed in (self.session.failed, self.model.failed):
            failed.connect(lambda *failure: self.failures.append(failure))

    def say(self, event: object) -> None:
        self.engine.event_received.emit(event)

    def open_model(self) -> None:
        self.model.start()
        self.say(Loaded(self.engine.sent[-1].request_id, MODEL))

    @property
    def asked(self) -> Generate:
        return self.engine.sent_of(Generate)[-1]

    def stored(self) -> list[tuple[str, str, MessageState]]:
        messages = self.store.messages(self.session.conversation.id)
        return [(m.message.role.value, m.message.text, m.state) for m in messages]

    def answer(self, text: str = "Once upon a time.") -> None:
        self.say(Token(self.asked.request_id, text, (1, 2)))
        self.say(Finished(self.asked.request_id, text, (1, 2, 0), FIGURES))


@pytest.fixture
def desk(tmp_path, qapp):
    desk = Desk(tmp_path)
    yield desk
    desk.session.close()
    desk.store.close()


@pytest.fixture
def ready(desk):
    desk.open_model()
    return desk
