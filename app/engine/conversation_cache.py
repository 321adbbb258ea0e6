"""The KV caches of the conversations that are open: which tokens each holds, and how far a new prompt can use them."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

from app.chat.options import CacheMode
from app.engine.layer_cache import parts

MOST_CONVERSATIONS = 3
"""Conversations whose caches stay in memory; the one not used for longest goes first."""


@dataclass(slots=True)
class ConversationCache:
    """One conversation's caches and the tokens they hold, in order."""

    mode: CacheMode
    group_size: int
    caches: list[Any]
    tokens: list[int]


class ConversationCaches:
    """The caches kept from turn to turn, by conversation."""

    def __init__(self, make: Callable[[CacheMode, int], list[Any]]) -> None:
        self._make = make
        self._kept: OrderedDict[str, ConversationCache] = OrderedDict()

    def fresh(self, mode: CacheMode, group_size: int) -> ConversationCache:
        """Return an empty cache that belongs to no conversation yet."""
        return ConversationCache(mode, group_size, self._make(mode, group_size), [])

    def take(
        self, chat_id: str, mode: CacheMode, group_size: int, prompt: Sequence[int]
    ) -> tuple[ConversationCache, int]:
        """Return a cache that holds the first n tokens of `prompt`, and n, which is less than the prompt's length.

        The cache is out of the collection until it is given back: what fails in between is not kept.
        """
        kept = self._kept.pop(chat_id, None)
        if kept is not None and kept.mode is mode and (mode is CacheMode.FP16 or kept.group_size == group_size):
            common = min(_common_prefix(kept.tokens, prompt), len(prompt) - 1)
            surplus = len(kept.tokens) - common
            if surplus == 0 or can_trim_prompt_cache(kept.caches):
                if surplus:
                    trim_prompt_cache(kept.caches, surplus)
                    del kept.tokens[common:]
                return kept, common
        # Freed before the new one grows: a switch of mode must not hold both.
        del kept
        return self.fresh(mode, group_size), 0

    def give_back(self, chat_id: str, cache: ConversationCache) -> None:
        """Keep `cache` for the conversation's next turn."""
        self._kept[chat_id] = cache
        while len(self._kept) > MOST_CONVERSATIONS:
            self._kept.popitem(last=False)

    @property
    def held_bytes(self) -> int:
        """What the kept caches take; those of a conversation that is taken are not among them."""
        caches = (part for kept in self._kept.values() for part in parts(kept.caches))
        return sum(0 if cache.empty() else int(cache.nbytes) for cache in caches)

    def drop_oldest(self) -> bool:
        """Let go of the caches not used for longest; False where none are kept."""
        if self._kept:
            self._kept.popitem(last=False)
            return True
        return False

    def forget(self, chat_id: str) -> None:
        """Drop a conversation's cache, if it is kept."""
        self._kept.pop(chat_id, None)


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    return min(len(first), len(second))
