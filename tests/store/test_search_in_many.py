"""A search has two ways to its result, by the index and by reading; which one is taken must not show."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.store import search
from app.store.store import Store

WORDS = ("lantern", "Harbour", "Straße", "100%", "a_b", "grün", "東京都", "the", "thesis", "qu")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "nibble.sqlite3")
    rng = random.Random(3)
    for number in range(40):
        chat = made.create_conversation(" ".join(rng.sample(WORDS, 1)), "", ChatOptions())
        for _ in range(rng.randrange(4)):
            made.add_message(chat.id, Message(Role.USER, " ".join(rng.choices(WORDS, k=3))))
        made.set_pinned(chat.id, number % 7 == 0)
    yield made
    made.close()


@pytest.mark.parametrize(
    "text", [*WORDS[:9], "lantern the", "STRASSE", "Thesis 100%", "GRÜN", "nowhere", "the nowhere"]
)
def test_reading_finds_what_the_index_finds(store: Store, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    by_index = store.search(text)
    monkeypatch.setattr(search, "_MANY", 1)
    assert store.search(text) == by_index
    assert [c.id for c in store.listed(text)] == [c.id for c in by_index]
    monkeypatch.setattr(search, "MOST_FOUND", 4)
    assert store.search(text) == by_index[:4]


def test_the_index_is_left_where_many_messages_hold_a_word(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    database = store._database
    assert "MATCH" in search.clauses(database, "lantern")[0]
    monkeypatch.setattr(search, "_MANY", 2)
    assert "MATCH" not in search.clauses(database, "lantern")[0]
    assert "MATCH" in search.clauses(database, "nowhere")[0]


def test_a_search_that_reads_goes_along_the_order_of_the_list(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_MANY", 1)
    where, values = search.clauses(store._database, "lantern")
    plan = " | ".join(
        row[3] for row in store._database.rows(f"EXPLAIN QUERY PLAN SELECT id FROM conversation {where}", values)
    )
    assert "conversation_order" in plan
    assert "TEMP B-TREE" not in plan, "so it ends with the last conversation that is returned"


def test_short_words_are_sought_in_all_titles_but_only_the_newest_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_NEWEST", 2)
    monkeypatch.setattr(search, "_IS_NEW", search._IS_NEW.replace("LIMIT 500", "LIMIT 2"))
    store = Store(tmp_path / "nibble.sqlite3")
    made = {}
    for title in ("old", "old and pinned", "old, zq in the title", "newer", "newest"):
        made[title] = store.create_conversation(title, "", ChatOptions())
        store.add_message(made[title].id, Message(Role.USER, "Say zq."))
    store.set_pinned(made["old and pinned"].id, True)
    found = [c.title for c in store.search("zq")]
    assert found == ["old and pinned", "newest", "newer", "old, zq in the title"]
    store.close()
