"""The clock is set back, or stands at an end of the calendar: order and ids do not depend on it."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.engine.fake_engine import FakeEngine
from app.paths import default_paths
from app.stats.history import SessionHistory
from app.stats.session import Row
from app.store import store as store_module
from app.store.store import ListedConversation, MessageState, Store
from app.viewmodels.conversation_list import ConversationList
from app.viewmodels.date_groups import grouped, when
from tests.chat_parts import FIGURES
from tests.ui.window_driver import Driver

START = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Clock:
    """Goes back a day at every look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> str:
        self.now -= timedelta(days=1)
        return self.now.isoformat(timespec="microseconds")


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(store_module, "_now", clock)
    return clock


def test_messages_keep_their_order_and_ids_grow_while_the_clock_goes_back(clock):
    store = Store(default_paths().database)
    first = store.create_conversation("First", "", ChatOptions())
    texts = [f"message {number}" for number in range(6)]
    ids = [store.add_message(first.id, Message(Role.USER, text)).id for text in texts]
    second = store.create_conversation("Second", "", ChatOptions())
    assert [m.message.text for m in store.messages(first.id)] == texts
    assert ids == sorted(set(ids))
    assert second.id > first.id
    store.update_message(ids[0], text="changed", state=MessageState.COMPLETE)
    assert [m.id for m in store.messages(first.id)] == ids
    store.close()


def test_a_chat_goes_on_in_a_window_whose_clock_was_set_back(loop, program_of, clock):
    driver = Driver(loop, program_of())
    driver.program.start()
    driver.until_idle()
    driver.chat("Before")
    clock.now -= timedelta(days=400)
    driver.chat("After")
    driver.window.actions_.new_chat.trigger()
    driver.chat("Another")
    said = [m.message.text for m in driver.session.messages]
    assert said[0] == "Another"
    listed = driver.program.models.conversations.conversations
    assert sorted(c.title for c in listed) == ["Another", "Before"]
    driver.session.open(next(c.id for c in listed if c.title == "Before"))
    assert [m.message.text for m in driver.session.messages][::2] == ["Before", "After"]


@pytest.mark.parametrize(
    "written_at", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00", "yesterday", ""]
)
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Midway"])
def test_no_date_keeps_the_list_from_being_shown(monkeypatch, written_at, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        rows = [ListedConversation(1, "Odd", written_at, 0), ListedConversation(2, "New", START.isoformat(), 0)]
        rows.sort(key=lambda row: row.updated_at, reverse=True)
        shown = grouped(rows, START)
        assert sorted(row.id for row in shown if isinstance(row, ListedConversation)) == [1, 2]
        assert when(written_at, START)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_list_of_a_store_with_an_odd_date_is_shown(clock):
    clock.now = datetime(1, 1, 3, tzinfo=UTC)
    store = Store(default_paths().database)
    store.create_conversation("Odd", "", ChatOptions())
    assert [c.title for c in ConversationList(store).conversations] == ["Odd"]
    store.close()


def test_two_sessions_of_one_moment_have_files_of_their_own(tmp_path):
    """As after an hour that comes twice: no session is written into another's file."""
    machine = FakeEngine().machine()
    for title in ("the first", "the second"):
        SessionHistory(tmp_path, lambda: START).append(Row(title, FIGURES), machine)
    histories = sorted(tmp_path.iterdir())
    assert len(histories) == 2
    assert ["the first" in path.read_text() for path in histories].count(True) == 1
