import dataclasses
import json
import sqlite3
import threading
from pathlib import Path

import pytest

from app.chat.figures import ReplyFigures
from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions, Sampling
from app.chat.plain import from_plain, to_plain
from app.errors import NibbleError
from app.store.store import GoneError, MessageState, Store, StoredMessage
from tests.store.chats import chat, reopened, titles, user

OPTIONS = ChatOptions(CacheMode.FP16, 64, "Be kind.", Sampling(temperature=0.0, seed=3))

# As version 1 of the database holds them. If this no longer reads, a migration is missing.
FIGURES_1 = """{"model": "starter", "started_at": "2026-11-23T10:00:00+00:00", "requested_mode": "int4",
    "cache": {"mode": "int4", "group_size": 32, "path": "cpu", "tokens": 40, "used_bytes": 1000,
        "allocated_bytes": 2000, "fp16_used_bytes": 3600, "fp16_allocated_bytes": 7200, "layers_int4": 5,
        "layers_total": 6, "notes": [{"layers": [2], "reason": "no keys"}]},
    "memory": {"active_bytes": 1, "peak_bytes": 2, "pool_bytes": 3},
    "prompt_tokens": 20, "reused_tokens": 5, "prefilled_tokens": 15, "generated_tokens": 20, "ttft_s": 0.25,
    "prefill_tokens_per_s": 60.0, "decode_tokens_per_s": 30.5, "elapsed_s": 1.0, "context_limit_tokens": 1024,
    "seed": 7, "temperature": 0.7, "top_p": 0.9, "top_k": 0, "min_p": 0.0, "max_tokens": 512,
    "finish_reason": "stop"}"""
OPTIONS_1 = """{"cache_mode": "fp16", "group_size": 64, "system_prompt": "Be kind.",
    "sampling": {"temperature": 0.0, "top_p": 0.9, "top_k": 0, "min_p": 0.0, "max_tokens": 512, "seed": 3}}"""
FIGURES: ReplyFigures = from_plain(ReplyFigures, json.loads(FIGURES_1))


# Conversations


def test_a_conversation_survives_a_restart(store: Store, path: Path) -> None:
    made = store.create_conversation("Über 🙂", "/models/a", OPTIONS)
    again = reopened(store, path)
    assert again.conversation(made.id) == made
    assert (made.title, made.model_path, made.options) == ("Über 🙂", "/models/a", OPTIONS)
    assert made.created_at == made.updated_at
    assert made.created_at.endswith("+00:00")
    again.close()


def test_what_a_conversation_sets_for_itself_can_change(store: Store) -> None:
    one, other = chat(store, "One"), chat(store, "Other")
    store.rename(one.id, "First")
    store.set_options(one.id, OPTIONS)
    store.set_model(one.id, "/models/b")
    changed = dataclasses.replace(one, title="First", options=OPTIONS, model_path="/models/b")
    assert store.conversation(one.id) == changed
    assert store.conversation(other.id) == other


def test_the_conversation_written_to_last_comes_first(store: Store) -> None:
    first, second, _ = chat(store, "1"), chat(store, "2"), chat(store, "3")
    assert titles(store.conversations()) == ["3", "2", "1"]
    message = store.add_message(first.id, user("Hi"))
    assert titles(store.conversations()) == ["1", "3", "2"]
    store.add_message(second.id, user("Hi"))
    store.update_message(message.id, text="Hi!", state=MessageState.COMPLETE)
    assert titles(store.conversations()) == ["1", "2", "3"]
    store.rename(second.id, "2b")
    assert titles(store.conversations()) == ["1", "2b", "3"], "a new title is no news"


def test_pinned_conversations_come_first(store: Store, path: Path) -> None:
    first, _, _ = chat(store, "1"), chat(store, "2"), chat(store, "3")
    store.set_pinned(first.id, True)
    assert titles(store.conversations()) == ["1", "3", "2"]
    assert store.conversation(first.id) == dataclasses.replace(first, is_pinned=True), "pinning is no news"
    again = reopened(store, path)
    again.set_pinned(first.id, False)
    assert titles(again.conversations()) == ["3", "2", "1"]
    again.close()


def test_how_long_a_model_thought_is_kept(store: Store) -> None:
    one = chat(store, "1", "Hi")
    (message,) = store.messages(one.id)
    assert message.reasoning_s is None
    changed = store.update_message(message.id, text="Hi", state=MessageState.COMPLETE, reasoning_s=1.5)
    assert store.messages(one.id) == [changed]
    assert changed.reasoning_s == 1.5


def test_a_list_has_the_same_conversations_in_short(store: Store) -> None:
    for title in ("fox 1", "badger", "fox 2"):
        chat(store, title, "so fa")
    store.set_pinned(store.conversations()[-1].id, True)
    for text in ("", "fox", "so", "1 fa", "none of them"):
        full = [(c.id, c.title, c.updated_at, c.is_pinned) for c in store.search(text)]
        assert [tuple(listed) for listed in store.listed(text)] == full


def test_deleting_a_conversation_takes_its_messages_with_it(store: Store) -> None:
    one, other = chat(store, "One", "apple"), chat(store, "Other", "apple")
    store.delete(one.id)
    assert titles(store.conversations()) == ["Other"]
    assert store.messages(one.id) == []
    assert [m.message.text for m in store.messages(other.id)] == ["apple"]
    assert titles(store.search("apple")) == ["Other"]
    store.delete(one.id)


def test_ids_are_never_given_out_twice(store: Store, path: Path) -> None:
    one = chat(store, "One", "text")
    (message,) = store.messages(one.id)
    store.delete(one.id)
    again = reopened(store, path)
    two = chat(again, "Two", "text")
    assert two.id > one.id
    assert again.messages(two.id)[0].id > message.id
    again.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.conversation(99),
        lambda s: s.rename(99, "x"),
        lambda s: s.set_options(99, OPTIONS),
        lambda s: s.set_model(99, "x"),
        lambda s: s.set_pinned(99, True),
        lambda s: s.add_message(99, user("x")),
        lambda s: s.update_message(99, text="x", state=MessageState.COMPLETE),
        lambda s: s.delete_from(99),
    ],
)
def test_what_is_gone_is_told(store: Store, call: object) -> None:
    assert callable(call)
    with pytest.raises(NibbleError, match="no longer exists"):
        call(store)
    chat(store, "The store goes on", "after that")


# Messages


def test_messages_keep_their_order_role_and_text(store: Store, path: Path) -> None:
    one, other = chat(store, "One"), chat(store, "Other")
    said = [
        Message(Role.SYSTEM, "Be kind."),
        Message(Role.USER, "ü 🙂\n\n```c\nint x;\n```"),
        Message(Role.ASSISTANT, ""),
    ]
    for message in said:
        store.add_message(one.id, message)
        store.add_message(other.id, user("noise"))
    again = reopened(store, path)
    assert [m.message for m in again.messages(one.id)] == said
    assert all(m.state is MessageState.COMPLETE and m.figures is None for m in again.messages(one.id))
    again.close()


def test_a_reply_grows_and_is_finished_with_its_figures(store: Store) -> None:
    one = chat(store, "One", "question")
    reply = store.add_message(one.id, Message(Role.ASSISTANT, ""), MessageState.STREAMING)
    growing = store.update_message(reply.id, text="Once", state=MessageState.STREAMING)
    assert growing == StoredMessage(reply.id, Message(Role.ASSISTANT, "Once"), MessageState.STREAMING, None)
    done = store.update_message(reply.id, text="Once upon", state=MessageState.COMPLETE, figures=FIGURES)
    assert done == StoredMessage(reply.id, Message(Role.ASSISTANT, "Once upon"), MessageState.COMPLETE, FIGURES)
    assert store.messages(one.id)[1] == done


def test_deleting_from_a_message_takes_the_later_ones_of_its_conversation_only(store: Store) -> None:
    one = chat(store, "One", "a", "b")
    other = chat(store, "Other", "x")
    store.add_message(one.id, user("c"))
    store.delete_from(store.messages(one.id)[1].id)
    assert [m.message.text for m in store.messages(one.id)] == ["a"]
    assert [m.message.text for m in store.messages(other.id)] == ["x"]
    store.add_message(one.id, user("d"))
    assert [m.message.text for m in store.messages(one.id)] == ["a", "d"]


@pytest.mark.parametrize("text", ["half \ud83d pair", "nul \0 byte"])
def test_text_that_sqlite_cannot_hold_is_mended_not_lost(store: Store, text: str) -> None:
    one = chat(store, "One", text)
    (stored,) = store.messages(one.id)
    assert stored.message.text.split() == [text.split()[0], stored.message.text.split()[1], text.split()[2]]
    assert titles(store.search(text)) == ["One"]


# After a crash


def test_a_reply_that_was_being_written_is_kept_and_marked(store: Store, path: Path) -> None:
    one = chat(store, "One", "question")
    before = store.conversation(one.id)
    reply = store.add_message(one.id, Message(Role.ASSISTANT, ""), MessageState.STREAMING)
    store.update_message(reply.id, text="Once upon", state=MessageState.STREAMING)
    failed = store.add_message(one.id, Message(Role.ASSISTANT, ""), MessageState.FAILED)

    # A second connection while the first is open: what a crash leaves, its write-ahead log unmerged.
    after = Store(path)
    assert after.recover() == 1
    kept = after.messages(one.id)
    assert [(m.message.text, m.state) for m in kept[1:]] == [
        ("Once upon", MessageState.CANCELLED),
        ("", MessageState.FAILED),
    ]
    assert kept[2].id == failed.id
    assert after.recover() == 0
    assert before.updated_at < after.conversation(one.id).updated_at
    after.close()


# The stored form


def test_values_as_version_1_wrote_them_are_still_read(store: Store, path: Path) -> None:
    one = chat(store, "One", "text")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE message SET figures = ?", (FIGURES_1,))
    other.execute("UPDATE conversation SET options = ?", (OPTIONS_1,))
    other.close()
    assert store.messages(one.id)[0].figures == FIGURES
    assert store.conversation(one.id).options == OPTIONS


def test_figures_and_options_are_stored_as_plain_json(store: Store, path: Path) -> None:
    one = store.create_conversation("One", "", OPTIONS)
    message = store.add_message(one.id, user("text"))
    store.update_message(message.id, text="text", state=MessageState.COMPLETE, figures=FIGURES)
    other = sqlite3.connect(path)
    (figures,) = other.execute("SELECT figures FROM message").fetchone()
    (options,) = other.execute("SELECT options FROM conversation").fetchone()
    other.close()
    assert json.loads(figures) == to_plain(FIGURES)
    assert json.loads(options) == to_plain(OPTIONS)


def test_spoiled_figures_or_options_do_not_hide_the_text(
    store: Store, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = chat(store, "One", "secret text")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE message SET figures = '{\"model\": 3}'")
    other.execute("UPDATE conversation SET options = 'spoiled'")
    other.close()
    (message,) = store.messages(one.id)
    assert (message.message.text, message.figures) == ("secret text", None)
    assert store.conversation(one.id).options == ChatOptions()
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text


def test_the_store_is_for_one_thread(store: Store) -> None:
    caught: list[BaseException] = []

    def read() -> None:
        try:
            store.conversations()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert [type(e) for e in caught] == [sqlite3.ProgrammingError], "a defect of ours, not one of the world's"


def test_writes_together_take_effect_together_or_not_at_all(store: Store) -> None:
    made = chat(store, "Foxes", "One", "Two")
    first = store.messages(made.id)[0]

    def rewrite(then: int) -> None:
        with store.together():
            store.delete_from(first.id)
            store.add_message(then, user("Three"))

    with pytest.raises(GoneError):
        rewrite(99)
    assert [m.message.text for m in store.messages(made.id)] == ["One", "Two"]
    rewrite(made.id)
    assert [m.message.text for m in store.messages(made.id)] == ["Three"]


def test_what_is_gone_has_an_error_of_its_own(store: Store) -> None:
    with pytest.raises(GoneError):
        store.update_message(99, text="", state=MessageState.COMPLETE)
