"""Lines of the protocol, settings files and rows of the database that nobody of ours wrote."""

import json
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chat.lines import ProtocolError
from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.chat.plain import plain_fields
from app.engine.protocol import (
    Event,
    Finished,
    Generate,
    Ready,
    Request,
    decode_event,
    decode_request,
    encode,
)
from app.errors import NibbleError
from app.settings.file import LoadedSettings, load_settings, save_settings
from app.settings.schema import Settings
from app.store.store import MessageState, Store
from app.viewmodels.conversation_list import ConversationList
from tests.chat_parts import FIGURES
from tests.faults.fuzzing import JSON, TEXTS, damaged, fuzz, mutated, soon

REQUEST = Generate("r1", "c1", (Message(Role.USER, "Hello"),), ChatOptions())
ANSWER = Finished("r1", "Hello", (1, 2), FIGURES)


def understood(line: str) -> Request | Event | None:
    """Read a line as the engine and as the window do; None where both say why not."""
    for decode in (decode_request, decode_event):
        try:
            with soon():
                return decode(line)
        except ProtocolError:
            continue
    return None


def as_line(item: Request | Event) -> dict[str, object]:
    return json.loads(encode(item))


@fuzz(80)
@given(st.one_of(st.text(), JSON.map(json.dumps), damaged(encode(ANSWER).encode()).map(lambda b: b.decode("latin-1"))))
def test_any_line_is_read_or_refused(line):
    understood(line)


@fuzz(150)
@given(st.one_of(mutated(as_line(REQUEST)), mutated(as_line(ANSWER))))
def test_what_is_read_can_be_said_again(data):
    read = understood(json.dumps(data))
    if read is not None:
        said = encode(read)
        assert said.isascii(), "one line, whatever the text"
        assert understood(said) == read


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"type":' * 100_000,
        '{"type":"Cancel","request_id":"' + "x" * 10_000_000 + '"}',
        '{"type":"Counted","request_id":"r","tokens":' + "9" * 1_000_000 + "}",
        '{"type":"Loading","request_id":"r","step":"s","fraction":1e999}',
        '{"type":"Loading","request_id":"r","step":"s","fraction":-1e999}',
        '{"type":"Counted","request_id":"r","tokens":9223372036854775808}',
    ],
    ids=lambda line: f"{line[:40]} ({len(line)})",
)
def test_a_line_beyond_all_bounds_takes_no_time(line):
    read = understood(line)
    assert read is None or read.request_id


def test_half_a_surrogate_pair_goes_through():
    line = json.dumps({"type": "Failed", "request_id": "r", "message": "\ud83d"})
    read = understood(line)
    assert read is not None
    assert understood(encode(read)) == read


def test_only_a_known_engine_is_listened_to():
    with pytest.raises(ProtocolError):
        decode_event(encode(REQUEST))
    assert Ready.__name__ not in encode(REQUEST)


SETTINGS = {"version": 1, **plain_fields(Settings(model_path="/models/a", recent_model_paths=("/models/a", "/b")))}


@fuzz(80)
@given(
    st.one_of(
        st.binary(max_size=200),
        mutated(SETTINGS).map(lambda data: json.dumps(data).encode()),
        damaged(json.dumps(SETTINGS).encode()),
    )
)
def test_any_settings_file_starts_the_app(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("settings")
    path = folder / "settings.json"
    path.write_bytes(content)
    with soon():
        loaded = load_settings(path)
    assert isinstance(loaded.settings, Settings)
    kept = [file.read_bytes() for file in folder.iterdir()]
    assert content in kept, "moved aside at most"
    if not path.exists():
        assert loaded.notice
    save_settings(path, loaded.settings)
    assert load_settings(path) == LoadedSettings(loaded.settings, "")


def test_a_settings_file_of_a_million_brackets_is_moved_aside(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text("[" * 1_000_000)
    with soon():
        assert "no JSON" in load_settings(path).notice
    assert not path.exists()


CELLS = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.binary(max_size=20),
    TEXTS.map(lambda text: text.encode("utf-8", "replace").decode()),
    JSON.map(json.dumps),
    st.sampled_from([sqlite3.Binary(b"\xff\xfe"), "[" * 100_000, 1, 2, 3]),
)
COLUMNS = (
    *(("conversation", name) for name in ("title", "model_path", "options", "created_at", "updated_at", "is_pinned")),
    ("conversation", "leaf_id"),
    *(
        ("message", name)
        for name in ("conversation_id", "role", "text", "state", "figures", "reasoning_s", "parent_id")
    ),
)
CHANGES = st.lists(st.tuples(st.sampled_from(COLUMNS), st.integers(1, 4), CELLS, st.booleans()), min_size=1, max_size=6)


@fuzz(40)
@given(changes=CHANGES)
def test_any_cell_of_the_database_is_read_or_told(tmp_path_factory, qapp, changes):
    path = tmp_path_factory.mktemp("store") / "chats.sqlite3"
    fill(path)
    spoil(path, changes)
    with soon():
        use(path)


@pytest.mark.parametrize("name", ["title", "model_path", "options", "created_at", "updated_at"])
def test_a_text_that_is_no_utf8_hides_no_conversation(tmp_path, qapp, name):
    fill(tmp_path / "a")
    with sqlite3.connect(tmp_path / "a") as connection:
        connection.execute(f"UPDATE conversation SET {name} = CAST(x'ff6869' AS TEXT) WHERE id = 1")
    connection.close()
    store = Store(tmp_path / "a")
    assert {c.id for c in store.conversations()} == {1, 2}
    assert {c.id for c in store.search("hello")} == {1, 2}
    store.close()


def test_messages_that_follow_each_other_in_a_circle_do_not_hang(tmp_path):
    fill(tmp_path / "a")
    with sqlite3.connect(tmp_path / "a") as connection:
        connection.execute("UPDATE message SET parent_id = 2 WHERE id = 1")
    connection.close()
    store = Store(tmp_path / "a")
    with soon():
        assert [m.id for m in store.messages(1)] == [1, 2]
        store.open_branch(1)
        store.branches(1)
        store.delete_from(1)
    assert store.messages(1) == []
    store.close()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("role = 'wizard'", ("assistant", "Hello, you", MessageState.COMPLETE)),
        ("state = 7", ("user", "Hello, you", MessageState.COMPLETE)),
        ("text = x'68c3a9ff'", ("user", "hé\ufffd", MessageState.COMPLETE)),
        ("figures = '{'", ("user", "Hello, you", MessageState.COMPLETE)),
        ("reasoning_s = 1e999", ("user", "Hello, you", MessageState.COMPLETE)),
    ],
)
def test_a_spoiled_message_is_shown_as_well_as_it_can_be(tmp_path, change, expected):
    fill(tmp_path / "a")
    with sqlite3.connect(tmp_path / "a") as connection:
        connection.execute(f"UPDATE message SET {change} WHERE id = 1")
    connection.close()
    store = Store(tmp_path / "a")
    first, second = store.messages(1)
    assert (first.message.role.value, first.message.text, first.state) == expected
    assert first.reasoning_s is None
    assert second.message.text == "Hello to you"
    store.close()


def fill(path):
    """Two conversations with a question and an answer each."""
    store = Store(path)
    for title in ("First", "Second"):
        conversation = store.create_conversation(title, "/m", ChatOptions())
        store.add_message(conversation.id, Message(Role.USER, "Hello, you"))
        answer = store.add_message(conversation.id, Message(Role.ASSISTANT, ""), MessageState.STREAMING)
        store.update_message(answer.id, text="Hello to you", state=MessageState.COMPLETE, figures=FIGURES)
    store.close()


def spoil(path, changes):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for (table, column), row, value, as_text in changes:
        placeholder = "CAST(CAST(? AS BLOB) AS TEXT)" if as_text and isinstance(value, bytes) else "?"
        try:
            connection.execute(f"UPDATE {table} SET {column} = {placeholder} WHERE id = ?", (value, row))
        except sqlite3.IntegrityError:
            continue  # what the schema refuses
    connection.commit()
    connection.close()


def use(path):
    """Do everything that a window does with its store. Each step may say that it cannot, and nothing else."""
    try:
        store = Store(path)
    except NibbleError:
        return
    try:
        store.recover()
        rows = ConversationList(store)
        for i in range(rows.rowCount()):
            for role in range(20):
                rows.data(rows.index(i, 0), role)
        for text in ("", "hello", "é", "x"):
            store.listed(text)
            store.search(text)
        for conversation in store.conversations():
            for message in store.messages(conversation.id):
                store.open_branch(message.id)
            store.branches(conversation.id)
            store.add_message(conversation.id, Message(Role.USER, "More"))
    except NibbleError:
        pass
    finally:
        store.close()
