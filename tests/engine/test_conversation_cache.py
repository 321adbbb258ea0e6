"""Which of a kept cache can be used for the next prompt."""

from typing import Any

import pytest

from app.chat.options import CacheMode
from app.engine.conversation_cache import MOST_CONVERSATIONS, ConversationCaches


class FakeCache:
    def __init__(self, trimmable: bool = True) -> None:
        self.trimmable = trimmable
        self.trimmed = 0

    def is_trimmable(self) -> bool:
        return self.trimmable

    def trim(self, n: int) -> int:
        self.trimmed += n
        return n


def caches_with(tokens: list[int], trimmable: bool = True) -> ConversationCaches:
    caches = ConversationCaches(lambda mode, group_size: [FakeCache(trimmable)])
    cache, reused = caches.take("a", CacheMode.INT4, 32, [1])
    assert reused == 0
    cache.tokens = list(tokens)
    caches.give_back("a", cache)
    return caches


@pytest.mark.parametrize(
    ("kept", "prompt", "reused"),
    [
        ([1, 2, 3], [1, 2, 3, 4, 5], 3),  # the next turn
        ([1, 2, 3, 9], [1, 2, 3, 4, 5], 3),  # an edit
        ([1, 2, 3], [1, 2, 3], 2),  # the same again: one token must be read to get an answer
        ([1, 2, 3, 4, 5], [1, 2, 3], 2),  # regenerate
        ([7, 8], [1, 2], 0),
    ],
)
def test_reuse_from_the_common_prefix(kept: list[int], prompt: list[int], reused: int) -> None:
    cache, got = caches_with(kept).take("a", CacheMode.INT4, 32, prompt)
    assert got == reused
    assert cache.tokens == prompt[:reused]
    assert cache.caches[0].trimmed == len(kept) - reused


def test_what_cannot_be_trimmed_is_read_anew() -> None:
    cache, reused = caches_with([1, 2, 3, 9], trimmable=False).take("a", CacheMode.INT4, 32, [1, 2, 3, 4])
    assert (reused, cache.tokens) == (0, [])
    cache, reused = caches_with([1, 2, 3], trimmable=False).take("a", CacheMode.INT4, 32, [1, 2, 3, 4])
    assert reused == 3


@pytest.mark.parametrize(("mode", "group_size"), [(CacheMode.FP16, 32), (CacheMode.INT4, 64)])
def test_another_mode_or_group_size_starts_empty(mode: CacheMode, group_size: int) -> None:
    cache, reused = caches_with([1, 2, 3]).take("a", mode, group_size, [1, 2, 3, 4])
    assert reused == 0
    assert (cache.mode, cache.group_size, cache.tokens) == (mode, group_size, [])


def test_what_was_taken_and_not_given_back_is_gone() -> None:
    caches = caches_with([1, 2, 3])
    caches.take("a", CacheMode.INT4, 32, [1, 2, 3, 4])
    assert caches.take("a", CacheMode.INT4, 32, [1, 2, 3, 4])[1] == 0


def test_the_conversation_not_used_for_longest_goes_first() -> None:
    caches: Any = caches_with([1, 2, 3])
    for i in range(MOST_CONVERSATIONS):
        cache, _ = caches.take(f"b{i}", CacheMode.INT4, 32, [1])
        cache.tokens = [1, 2]
        caches.give_back(f"b{i}", cache)
    assert caches.take("a", CacheMode.INT4, 32, [1, 2, 3])[1] == 0
    caches.forget("b1")
    assert caches.take("b1", CacheMode.INT4, 32, [1, 2, 3])[1] == 0
    assert caches.take("b2", CacheMode.INT4, 32, [1, 2, 3])[1] == 2
