"""The full-text search of conversations."""

import pytest

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.store.store import MessageState, Store
from tests.store.chats import chat, titles


def test_search_looks_into_titles_and_messages(store: Store) -> None:
    chat(store, "Gardening", "When do tulips flower?")
    chat(store, "Tulip mania", "What happened in 1637?")
    chat(store, "Code", "int main(void)")
    assert titles(store.search("tulip")) == ["Tulip mania", "Gardening"]
    assert titles(store.search("1637")) == ["Tulip mania"]
    assert store.search("roses") == []
    assert titles(store.search("  ")) == ["Code", "Tulip mania", "Gardening"]


def test_all_words_must_occur_somewhere_in_the_conversation(store: Store) -> None:
    chat(store, "Gardening", "When do tulips flower?", "In May.")
    chat(store, "Tulips", "In April")
    assert titles(store.search("tulips may garden")) == ["Gardening"]
    assert store.search("tulips may april") == []


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Straße in KÖLN", "köln"),
        ("Straße in KÖLN", "STRASSE".lower()[:4]),
        ("Привет, мир", "ПРИВЕТ"),
        ("我喜欢喝茶", "喜欢"),
        ("我喜欢喝茶", "喜欢喝茶"),
        ("a family 👩‍👩‍👧 here", "👩‍👩‍👧"),
        ("kv_cache.update(x)", "cache.up"),
        ("I like C++ and C#", "c++ c#"),
        ('He said "hello there"', '"hello'),
        ("50% of it", "50% of"),
        ("under_score", "r_s"),
        ("it's", "t's"),
        ("x", "X"),
    ],
)
def test_search_finds_every_script_and_sign(store: Store, text: str, query: str) -> None:
    chat(store, "Hit", text)
    chat(store, "Miss", "nothing of the kind")
    assert titles(store.search(query)) == ["Hit"]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '""',
        '"""',
        "*",
        "(",
        "a AND",
        "NOT x",
        "NEAR(a b)",
        "text:x",
        "^abc",
        "-abc",
        "{abc}",
        "a'b",
        "?",
        "%",
        "___",
        "\\",
        "\0",
        "\0\0\0",
        "\ud800abc",
        "a" * 10_000,
        "word " * 100,
    ],
)
def test_no_query_breaks_the_search_or_matches_by_syntax(store: Store, query: str) -> None:
    chat(store, "Plain", "zebra")
    assert store.search(query) == []


def test_query_words_that_are_operators_are_words(store: Store) -> None:
    chat(store, "Logic", "this AND that NOT those")
    chat(store, "Other", "this that those")
    assert titles(store.search("AND NOT")) == ["Logic"]


def test_search_knows_changed_and_deleted_texts(store: Store) -> None:
    one = chat(store, "One", "apple", "banana")
    first, second = store.messages(one.id)
    store.update_message(first.id, text="cherry", state=MessageState.COMPLETE)
    assert store.search("apple") == []
    assert titles(store.search("cherry")) == ["One"]
    store.delete_from(second.id)
    assert store.search("banana") == []


@pytest.mark.parametrize("word", ["100%", "a_b", "c\\d", "%", "_"])
def test_signs_of_the_query_language_mean_themselves(store, word):
    found = store.create_conversation(f"x{word}y", "", ChatOptions())
    said = store.create_conversation("By its message", "", ChatOptions())
    store.add_message(said.id, Message(Role.USER, f"Say {word}."))
    store.create_conversation("100 aab cd", "", ChatOptions())
    assert {c.id for c in store.search(word)} == {found.id, said.id}


def test_a_search_returns_the_newest_of_many(store, monkeypatch):
    monkeypatch.setattr("app.store.search.MOST_FOUND", 3)
    made = [store.create_conversation(f"Fox {number}", "", ChatOptions()) for number in range(5)]
    assert [c.id for c in store.search("fox")] == [c.id for c in reversed(made[2:])]
