"""Which conversations go to disk, when, and how far what comes back can be used."""

from pathlib import Path
from typing import Any

import pytest

from app.chat.options import CacheMode
from app.engine.cache_plan import make_caches, plan_cache
from app.engine.cache_store import CacheStore
from app.engine.conversation_cache import (
    LEAST_SHARE,
    MOST_CONVERSATIONS,
    PAUSE_SHARE,
    CacheDisk,
    ConversationCache,
    ConversationCaches,
    until,
)
from tests.engine.kept_cache import IDENTITY, never, read, states, tokens_of
from tests.tiny_model import build_model

TEXT = tokens_of(240)


class Desk:
    """A model's conversations, in memory and on disk."""

    def __init__(self, folder: Path, model_type: str) -> None:
        self.model = build_model(model_type)
        self.plan = plan_cache(self.model)
        self.store = CacheStore(folder, 10**9)
        self.writes: list[str] = []
        write = self.store.save

        def save(chat_id: str, *rest: Any) -> bool:
            self.writes.append(chat_id)
            return write(chat_id, *rest)

        self.store.save = save  # type: ignore[method-assign]
        self.caches = self.opened_again()

    def opened_again(self) -> ConversationCaches:
        self.caches = ConversationCaches(
            lambda mode, group_size: make_caches(self.model, self.plan, mode, group_size),
            CacheDisk(self.store, IDENTITY),
        )
        return self.caches

    def take(self, chat_id: str, tokens: int, mode: CacheMode = CacheMode.INT4) -> ConversationCache:
        cache, reused = self.caches.take(chat_id, mode, 32, [*TEXT[:tokens], 7])
        assert cache.tokens == TEXT[:reused]
        return cache

    def turn(self, chat_id: str, tokens: int, mode: CacheMode = CacheMode.INT4) -> ConversationCache:
        """Have a conversation of so many tokens."""
        cache = self.take(chat_id, tokens, mode)
        if new := TEXT[len(cache.tokens) : tokens]:
            read(self.model, cache.caches, new)
        cache.tokens = TEXT[:tokens]
        self.caches.give_back(chat_id, cache)
        return cache


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, "qwen2")


@pytest.fixture
def rings(tmp_path: Path) -> Desk:
    return Desk(tmp_path, "gemma3_text")


def test_in_pauses_a_conversation_is_written_a_few_times_over_in_all(desk: Desk) -> None:
    for tokens in range(2, 200, 2):
        desk.turn("a", tokens)
        desk.caches.save(PAUSE_SHARE, never)
    assert 10 < len(desk.writes) < 40
    cache = desk.turn("a", 200)
    assert 0 < len(cache.tokens) - cache.saved_tokens <= len(cache.tokens) * PAUSE_SHARE
    desk.caches.save(0.0, never)
    assert cache.saved_tokens == 200
    written = len(desk.writes)
    desk.caches.save(0.0, never)
    assert len(desk.writes) == written, "what is there already is not written again"
    assert len(desk.opened_again().take("a", CacheMode.INT4, 32, TEXT)[0].tokens) == 200


def test_who_leaves_memory_comes_back_from_disk(desk: Desk) -> None:
    before = states(desk.turn("first", 100).caches)
    for number in range(MOST_CONVERSATIONS):
        desk.turn(str(number), 20)
    assert desk.writes == ["first"]
    cache = desk.take("first", 120)
    assert (cache.disk_tokens, cache.saved_tokens) == (100, 100)
    assert states(cache.caches) == before
    desk.caches.give_back("first", cache)
    assert desk.take("first", 120).disk_tokens == 0, "from memory this time"


def test_the_one_used_last_is_saved_first_and_when_told_to_stop_no_other(desk: Desk) -> None:
    for name in ("a", "b", "c"):
        desk.turn(name, 30)
    desk.caches.save(0.0, lambda: bool(desk.writes))
    assert desk.writes == ["c"], "told to stop as it was written"
    desk.writes.clear()
    desk.caches.save(0.0, never)
    assert desk.writes == ["c", "b", "a"]
    desk.caches.save(0.0, until(-1.0))
    assert len(desk.writes) == 3
    assert not until(60.0)()


def test_fp16_conversations_stay_in_memory_alone(desk: Desk) -> None:
    desk.turn("a", 60, CacheMode.FP16)
    desk.caches.save(0.0, never)
    assert desk.writes == []
    desk.turn("b", 60)
    desk.caches.save(0.0, never)
    assert desk.take("b", 80, CacheMode.FP16).tokens == []
    assert desk.take("b", 80).disk_tokens == 60, "back in int4 it is there again"


def test_a_beginning_in_common_is_used_from_disk_as_from_memory(desk: Desk) -> None:
    desk.turn("a", 200)
    desk.caches.save(0.0, never)
    caches = desk.opened_again()
    cache, reused = caches.take("a", CacheMode.INT4, 32, [*TEXT[:150], 300, 301])
    assert (reused, cache.disk_tokens, cache.saved_tokens, cache.tokens) == (150, 150, 150, TEXT[:150])
    read(desk.model, cache.caches, [30, 31])
    cache.tokens += [30, 31]
    caches.give_back("a", cache)
    caches.save(0.0, never)
    assert desk.opened_again().take("a", CacheMode.INT4, 32, [*TEXT[:150], 30, 31, 7])[1] == 152, "the branch is saved"


def test_the_same_prompt_again_leaves_one_token_to_read(desk: Desk) -> None:
    desk.turn("a", 100)
    desk.caches.save(0.0, never)
    assert desk.opened_again().take("a", CacheMode.INT4, 32, TEXT[:100])[1] == 99


def test_too_short_a_beginning_is_not_worth_a_file(desk: Desk) -> None:
    desk.turn("a", 200)
    desk.caches.save(0.0, never)
    few = int(200 * LEAST_SHARE)
    assert desk.opened_again().take("a", CacheMode.INT4, 32, [*TEXT[:few], 300, 301])[1] == 0
    assert desk.opened_again().take("a", CacheMode.INT4, 32, [*TEXT[: few + 1], 300, 301])[1] == few + 1


def test_rings_come_back_whole_or_not_at_all(rings: Desk) -> None:
    """A ring that has turned over cannot be turned back; an older file, of fewer tokens, may still be the beginning."""
    rings.turn("a", 100)
    rings.caches.save(0.0, never)
    rings.turn("a", 110)
    edited = [*TEXT[:105], 300, 301]
    cache, reused = rings.caches.take("a", CacheMode.INT4, 32, edited)
    assert (reused, cache.disk_tokens) == (100, 100), "not from memory, which holds five tokens too many"
    rings.turn("b", 100)
    rings.caches.save(0.0, never)
    rings.opened_again()
    assert rings.caches.take("b", CacheMode.INT4, 32, [*TEXT[:90], 300, 301])[1] == 0
    assert rings.store.path("b").exists()
    short, reused = rings.opened_again().take("b", CacheMode.INT4, 32, [*TEXT[:100], 300])
    assert (reused, len(short.tokens)) == (100, 100)


def test_a_forgotten_conversation_is_nowhere(desk: Desk) -> None:
    desk.turn("a", 60)
    desk.caches.save(0.0, never)
    desk.caches.forget("a")
    assert not desk.store.path("a").exists()
    assert desk.take("a", 80).tokens == []


def test_without_a_disk_nothing_is_written(desk: Desk) -> None:
    desk.caches.disk = None
    for number in range(MOST_CONVERSATIONS + 1):
        desk.turn(str(number), 20)
    desk.caches.save(0.0, never)
    desk.caches.forget("0")
    assert desk.writes == []
