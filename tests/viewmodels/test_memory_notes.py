"""What the chat session and the window's models make of a memory budget."""

from dataclasses import replace

import pytest

from app.chat.options import CacheMode
from app.chat.outlook import CacheGrowth, LayerGrowth, Outlook
from app.chat.shortage import Shortage, size_text
from app.engine.protocol import Failed, Finished, Generate, Load, Loaded, SetBudget, Token
from app.store.store import MessageState
from app.viewmodels.memory_notes import MemoryNotes, memory_note
from app.viewmodels.reply import ChatState
from tests.chat_parts import FIGURES, MODEL

GB = 1_000_000_000
SHORTAGE = Shortage(
    tokens=900,
    mode=CacheMode.FP16,
    weight_bytes=6 * GB,
    cache_bytes=2 * GB,
    work_bytes=500_000_000,
    budget_bytes=8 * GB,
    budget_source="set in Settings",
    own_tokens=700,
    int4_tokens=3000,
    int4_bytes=7 * GB,
)
OUTLOOK = Outlook(CacheGrowth((LayerGrowth(1, 2, 1),)), (), 8 * GB, "the machine's")


def say(mode: CacheMode = CacheMode.FP16, budget_bytes: int = 8 * GB, has_begun: bool = True, **other: object):
    return memory_note(replace(SHORTAGE, **other), has_begun=has_begun, mode=mode, budget_bytes=budget_bytes)


def test_the_note_has_the_numbers_and_offers_int4_where_it_helps():
    note = say()
    assert note.title.startswith("The reply was stopped")
    assert note.text == (
        "A chat of 900 tokens takes 8.50 GB: 6.00 GB for weights, 2.00 GB for the KV cache in fp16 and 0.50 GB to work "
        "in. That is 0.50 GB more than the memory budget of 8.00 GB (set in Settings). In int4 it takes 7.00 GB and "
        "can grow to 3,000 tokens."
    )
    assert (note.offers_int4, note.has_room) == (True, False)
    assert say(has_begun=False).title.startswith("There is no reply")
    assert not say(int4_tokens=900).offers_int4
    assert not say(process_bytes=9 * GB).offers_int4, "what the process holds besides does not shrink"
    assert "9.00 GB for the model and its chats. That is 1.00 GB more" in say(process_bytes=9 * GB).text


def test_the_note_says_when_there_is_room():
    assert not say(budget_bytes=8_400_000_000).has_room
    raised = say(budget_bytes=9 * GB)
    assert (raised.has_room, raised.offers_int4) == (True, False)
    assert raised.text == "It takes 8.50 GB, and the budget is 9.00 GB."
    assert say(CacheMode.INT4).text == "It takes 7.00 GB, and the budget is 8.00 GB."
    assert not say(CacheMode.INT4, int4_tokens=800).has_room


def test_sizes_are_said_in_the_unit_that_suits_them():
    assert [size_text(n) for n in (48_600, 100_000, 99_900_000, 100_000_000)] == [
        "48.6 KB",
        "0.1 MB",
        "99.9 MB",
        "0.10 GB",
    ]


@pytest.fixture
def told(ready):
    told: list[tuple[int, Shortage]] = []
    ready.session.ran_short.connect(lambda *what: told.append(what))
    return told


def test_a_reply_stopped_by_the_budget_keeps_text_and_figures(ready, told):
    ready.session.send("Tell me a story")
    ready.say(Token(ready.asked.request_id, "Once", (1,)))
    figures = replace(FIGURES, finish_reason="memory")
    ready.say(Finished(ready.asked.request_id, "Once upon", (1, 2), figures, SHORTAGE))
    assert ready.stored()[-1] == ("assistant", "Once upon", MessageState.CANCELLED)
    assert ready.session.messages[-1].figures == figures
    assert told == [(ready.session.messages[-1].id, SHORTAGE)]
    assert ready.failures == []
    assert ready.session.state is ChatState.IDLE


def test_a_message_refused_by_the_budget_is_no_failure_of_the_engine(ready, told):
    ready.session.send("Tell me a story")
    ready.say(Failed(ready.asked.request_id, "Too much.", "Less.", shortage=SHORTAGE))
    assert ready.stored()[-1] == ("assistant", "", MessageState.CANCELLED)
    assert told == [(ready.session.messages[-1].id, SHORTAGE)]
    assert ready.failures == []
    assert ready.session.regenerate(), "the next one works"


def test_switching_to_int4_asks_again(ready):
    notes = MemoryNotes(ready.session, ready.model)
    changes = []
    notes.changed.connect(lambda: changes.append(notes.note))
    ready.session.set_options(replace(ready.session.options, cache_mode=CacheMode.FP16))
    ready.session.send("Tell me a story")
    ready.say(Failed(ready.asked.request_id, "Too much.", "Less.", shortage=SHORTAGE))
    assert notes.note is not None
    assert notes.note.offers_int4
    notes.switch_to_int4()
    assert notes.note is None
    assert len(ready.engine.sent_of(Generate)) == 2
    assert ready.asked.options.cache_mode is CacheMode.INT4
    assert [note is None for note in changes[-2:]] == [False, True]


def budget(desk, gigabytes: float | None) -> None:
    desk.settings.replace(replace(desk.settings.settings, memory_budget_gb=gigabytes))


def test_every_engine_process_is_told_the_budget_before_it_opens_a_model(desk):
    budget(desk, 6.5)
    desk.engine.sent.clear()
    desk.model.start()
    assert desk.engine.sent[-2] == SetBudget(6_500_000_000)
    assert isinstance(desk.engine.sent[-1], Load)
    desk.model.load("/models/a")
    assert len(desk.engine.sent_of(SetBudget)) == 1
    desk.engine.died.emit("The engine stopped: killed.", "")
    desk.model.restart()
    assert [type(request) for request in desk.engine.sent[-2:]] == [SetBudget, Load]


def test_an_automatic_budget_is_said_only_where_another_was_before(ready):
    assert ready.engine.sent_of(SetBudget) == []
    budget(ready, 4)
    budget(ready, None)
    assert ready.engine.sent_of(SetBudget) == [SetBudget(4_000_000_000), SetBudget(0)]


def test_the_open_models_outlook_is_that_of_the_budget(desk):
    desk.model.start()
    desk.say(Loaded(desk.engine.sent[-1].request_id, replace(MODEL, outlook=OUTLOOK)))
    changes = []
    desk.model.changed.connect(lambda: changes.append(desk.model.facts.outlook))
    budget(desk, 2)
    assert changes == [OUTLOOK.within(2 * GB)]
    assert (changes[0].memory_bytes, changes[0].memory_source) == (2 * GB, "set in Settings")
    budget(desk, None)
    assert changes[1] == OUTLOOK
