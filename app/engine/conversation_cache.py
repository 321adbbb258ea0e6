"""The KV caches of the conversations that are open: which tokens each holds, and how far a new prompt can use them.

A conversation that is not in memory may be on disk (`cache_store`): its caches come back from there.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

from app.chat.options import CacheMode
from app.engine.cache_file import Stop
from app.engine.cache_store import CacheStore
from app.engine.layer_cache import parts

MOST_CONVERSATIONS = 3
"""Conversations whose caches stay in memory; the one not used for longest goes first."""
PAUSE_SHARE = 1 / 8
"""In a pause a file is written anew once this share of a conversation is not in it: a conversation that grows turn by
turn is then written some nine times over in all, however many turns it has."""
LEAST_SHARE = 1 / 16
"""A file of which the prompt shares less is not worth loading whole."""
LEAVE_S = 1.5
"""As long may saving keep others waiting: the end of the engine, another model, the next reply."""


@dataclass(slots=True)
class ConversationCache:
    """One conversation's caches and the tokens they hold, in order."""

    mode: CacheMode
    group_size: int
    caches: list[Any]
    tokens: list[int]
    disk_tokens: int = 0
    """Of the tokens at the beginning of this turn, those that came from disk with it."""
    saved_tokens: int = 0
    """Of the tokens, from the first on, those that are on disk too."""


@dataclass(frozen=True, slots=True)
class CacheDisk:
    """Where caches of int4 conversations are kept on disk, and what tells the open model from others."""

    store: CacheStore
    identity: Mapping[str, str]

    def load(self, chat_id: str, prompt: Sequence[int], empty: ConversationCache) -> ConversationCache | None:
        """Fill `empty` from the conversation's file; None where that is of no use for `prompt`, and `empty` is void."""

        def is_useful(tokens: list[int]) -> bool:
            return _common_prefix(tokens, prompt) > len(tokens) * LEAST_SHARE

        tokens = self.store.load(chat_id, self._identity(empty), is_useful, empty.caches)
        if tokens is None:
            return None
        empty.tokens = tokens
        empty.saved_tokens = len(tokens)
        return empty

    def save(self, chat_id: str, cache: ConversationCache, stop: Stop) -> None:
        """Write the conversation's file."""
        if self.store.save(chat_id, self._identity(cache), cache.tokens, cache.caches, stop):
            cache.saved_tokens = len(cache.tokens)

    def _identity(self, cache: ConversationCache) -> dict[str, str]:
        return {**self.identity, "group_size": str(cache.group_size)}


@dataclass(slots=True)
class ConversationCaches:
    """The caches kept from turn to turn, by conversation."""

    make: Callable[[CacheMode, int], list[Any]]
    disk: CacheDisk | None = None
    """None where nothing is kept on disk."""
    _kept: OrderedDict[str, ConversationCache] = field(default_factory=OrderedDict)

    def fresh(self, mode: CacheMode, group_size: int) -> ConversationCache:
        """Return an empty cache that belongs to no conversation yet."""
        return ConversationCache(mode, group_size, self.make(mode, group_size), [])

    def take(
        self, chat_id: str, mode: CacheMode, group_size: int, prompt: Sequence[int]
    ) -> tuple[ConversationCache, int]:
        """Return a cache that holds the first n tokens of `prompt`, and n, which is less than the prompt's length.

        The cache is out of the collection until it is given back: what fails in between is not kept.
        """
        kept = self._kept.pop(chat_id, None)
        if (
            kept is not None
            and kept.mode is mode
            and (mode is CacheMode.FP16 or kept.group_size == group_size)
            and _turn_back(kept, prompt)
        ):
            kept.disk_tokens = 0
            return kept, len(kept.tokens)
        # Freed before the new one grows: a switch of mode must not hold both.
        del kept
        if self.disk is not None and mode is CacheMode.INT4:
            loaded = self.disk.load(chat_id, prompt, self.fresh(mode, group_size))
            if loaded is not None and _turn_back(loaded, prompt):
                loaded.disk_tokens = len(loaded.tokens)
                return loaded, len(loaded.tokens)
        return self.fresh(mode, group_size), 0

    def give_back(self, chat_id: str, cache: ConversationCache) -> None:
        """Keep `cache` for the conversation's next turn. A conversation that has to leave for it is saved before."""
        self._kept[chat_id] = cache
        while len(self._kept) > MOST_CONVERSATIONS:
            leaving, oldest = self._kept.popitem(last=False)
            self._save(leaving, oldest, 0.0, until(LEAVE_S))

    @property
    def held_bytes(self) -> int:
        """What the kept caches take; those of a conversation that is taken are not among them."""
        caches = (part for kept in self._kept.values() for part in parts(kept.caches))
        return sum(0 if cache.empty() else int(cache.nbytes) for cache in caches)

    def drop_oldest(self) -> bool:
        """Save the caches not used for longest, and let go of them; False where none are kept."""
        if not self._kept:
            return False
        leaving, oldest = self._kept.popitem(last=False)
        self._save(leaving, oldest, 0.0, until(LEAVE_S))
        return True

    def forget(self, chat_id: str) -> None:
        """Drop a conversation's cache, in memory and on disk."""
        self._kept.pop(chat_id, None)
        if self.disk is not None:
            self.disk.store.forget(chat_id)

    def save(self, share: float, stop: Stop) -> None:
        """Save the conversations of which more than this share of tokens is not on disk, the one used last first."""
        for chat_id, cache in reversed(self._kept.items()):
            if stop():
                return
            self._save(chat_id, cache, share, stop)

    def _save(self, chat_id: str, cache: ConversationCache, share: float, stop: Stop) -> None:
        if self.disk is None or cache.mode is not CacheMode.INT4:
            return
        if len(cache.tokens) - cache.saved_tokens > share * len(cache.tokens):
            self.disk.save(chat_id, cache, stop)


def until(seconds: float) -> Stop:
    """Return a `Stop` that says so once the time is over."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def _turn_back(cache: ConversationCache, prompt: Sequence[int]) -> bool:
    """Forget what a cache holds beyond the beginning that it has in common with `prompt`; False where that cannot be.

    Of `prompt` at least the last token stays to be read.
    """
    common = min(_common_prefix(cache.tokens, prompt), len(prompt) - 1)
    surplus = len(cache.tokens) - common
    if surplus and not can_trim_prompt_cache(cache.caches):
        return False
    if surplus:
        trim_prompt_cache(cache.caches, surplus)
        del cache.tokens[common:]
        cache.saved_tokens = min(cache.saved_tokens, common)
    return True


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    return min(len(first), len(second))
