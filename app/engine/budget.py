"""A reply's memory against the budget: what must go before it, how long it may become, and where it has to stop.

What is counted is what `app.engine.fit` counts: weights, the caches that are held, and the work of a step. The working
set is that of a prefill chunk also while a reply is decoded, when less is needed: the next message must be read too.
The process as a whole is watched besides, since MLX's allocator and our sums know only their own part. What it took
beside MLX as the model was opened (Python, libraries, what loading left behind) is no part of the budget.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from app.chat.figures import ModelFacts
from app.chat.options import ChatOptions
from app.chat.outlook import Outlook
from app.chat.shortage import Shortage, shortage_of
from app.errors import NibbleError

WATCHED_TOKENS = 32
"""The process is measured each time so many tokens were written, and after every chunk of a prompt."""
WATCH_SLACK_BYTES = 64 * 1024**2
"""What the process may hold above the budget: holes in its heap, and Python's own growth."""
WAYS_OUT = "Shorten the conversation, switch to int4, or raise the memory budget in Settings."


class OverBudgetError(NibbleError):
    """A conversation takes more than the budget holds."""

    def __init__(self, shortage: Shortage) -> None:
        super().__init__(shortage.text, WAYS_OUT)
        self.shortage = shortage


class Held(Protocol):
    """The caches of the conversations that no reply is written in."""

    @property
    def held_bytes(self) -> int:
        """What they take together."""

    def drop_oldest(self) -> bool:
        """Let go of the one not used for longest; False where there is none."""


@dataclass(frozen=True, slots=True)
class Watch:
    """The process's own memory, as the system counts it."""

    taken: Callable[[], int]
    """What is held now beyond what the process took beside MLX as the model was opened; 0 where that is not known."""
    free_pool: Callable[[], None]
    """Give back what MLX's allocator keeps for reuse."""


def opened_anyway(outlook: Outlook, physical_bytes: int) -> Outlook:
    """Return `outlook` for a model that was opened in spite of its budget: it may use all of the machine's memory."""
    if outlook.memory_bytes >= physical_bytes:
        return outlook
    source = "all of this machine's memory, as the model was opened anyway"
    return replace(outlook, memory_bytes=physical_bytes, memory_source=source)


class ReplyBudget:
    """The budget of one reply."""

    def __init__(self, facts: ModelFacts, outlook: Outlook, options: ChatOptions, held: Held, watch: Watch) -> None:
        self._facts = facts
        self._outlook = outlook
        self._mode, self._group_size = options.cache_mode, options.group_size
        self._held = held
        self._watch = watch
        self._alone_tokens = self._longest(0)
        self._tokens = self._longest(held.held_bytes)

    def require(self, tokens: int) -> None:
        """Make room for a conversation of `tokens` tokens. Raises OverBudgetError, and then nothing was dropped."""
        if not self.has_room(tokens):
            raise OverBudgetError(self.shortage(tokens))

    def has_room(self, tokens: int) -> bool:
        """Tell whether `tokens` tokens fit; where that helps, other conversations' caches are dropped, oldest first."""
        if tokens > self._alone_tokens:
            return False
        while tokens > self._tokens and self._held.drop_oldest():
            self._watch.free_pool()
            self._tokens = self._longest(self._held.held_bytes)
        return True

    def process_passes(self) -> bool:
        """Tell whether the process holds more than the budget, also without MLX's pool and the others' caches."""
        most = self._outlook.memory_bytes + WATCH_SLACK_BYTES
        if self._watch.taken() <= most:
            return False
        self._watch.free_pool()
        while self._watch.taken() > most:
            if not self._held.drop_oldest():
                return True
            self._watch.free_pool()
        self._tokens = self._longest(self._held.held_bytes)
        return False

    def shortage(self, tokens: int, *, by_process: bool = False) -> Shortage:
        """Return why a conversation of `tokens` tokens is stopped."""
        process_bytes = self._watch.taken() if by_process else 0
        return shortage_of(self._facts, self._outlook, self._mode, self._group_size, tokens, process_bytes)

    def _longest(self, other_bytes: int) -> int:
        """Return the most tokens that fit beside the weights and `other_bytes`."""
        taken, limit = self._facts.weight_bytes + other_bytes, self._facts.context_limit_tokens
        return self._outlook.longest(taken, limit, self._mode, self._group_size)
