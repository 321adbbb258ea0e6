from dataclasses import replace
from pathlib import Path

import pytest

from app.engine.protocol import Forget, Generate, KeepCaches
from app.viewmodels.saved_caches import SavedCaches, chat_id
from tests.chat_parts import MODEL

FOLDER = Path("/caches")


@pytest.fixture
def saved(ready):
    return SavedCaches(ready.engine, ready.store, ready.settings, FOLDER)


def test_an_engine_is_told_as_it_starts_where_how_much_and_for_whom(ready, saved):
    ready.session.send("Hello")
    ready.answer()
    ready.engine.started_up.emit(MODEL)
    (told,) = ready.engine.sent_of(KeepCaches)
    assert told == KeepCaches("/caches", 5_000_000_000, (ready.engine.sent_of(Generate)[-1].chat_id,))
    ready.engine.started_up.emit(MODEL)
    assert ready.engine.sent_of(KeepCaches) == [told, told]


def test_another_bound_is_told_and_nothing_else(ready, saved):
    ready.settings.replace(replace(ready.settings.settings, text_size_percent=120))
    assert ready.engine.sent_of(KeepCaches) == []
    ready.settings.replace(replace(ready.settings.settings, saved_caches_gb=0))
    assert [told.limit_bytes for told in ready.engine.sent_of(KeepCaches)] == [0]


def test_a_deleted_conversation_is_forgotten_by_the_same_name(ready, saved):
    ready.session.send("Hello")
    ready.answer()
    conversation = ready.session.conversation.id
    ready.session.delete(conversation)
    assert ready.engine.sent_of(Forget) == [Forget(chat_id(conversation))]
    ready.engine.started_up.emit(MODEL)
    assert ready.engine.sent_of(KeepCaches)[-1].chat_ids == ()
