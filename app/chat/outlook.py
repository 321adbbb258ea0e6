"""What a conversation's KV cache takes as it grows, and how much memory there is for it. Bytes are ints."""

from dataclasses import dataclass, replace

from app.chat.options import CacheMode

SET_BUDGET = "set in Settings"
"""What a budget is that a person has set."""


@dataclass(frozen=True, slots=True)
class LayerGrowth:
    """How `layers` alike layers' caches grow: `row_bytes` for each of their rows, all of these layers together."""

    layers: int
    row_bytes: int
    step_tokens: int
    """Rows are reserved this many at a time."""
    window_tokens: int = 0
    """Most rows that are kept: a sliding window's length; 0 where every token is kept."""
    fixed_bytes: int = 0
    """What is held whatever the number of tokens is: a state that does not grow."""

    def rows_at(self, tokens: int) -> int:
        """Return the rows that are reserved once `tokens` tokens were taken."""
        rows = -(-tokens // self.step_tokens) * self.step_tokens
        return min(rows, self.window_tokens) if self.window_tokens else rows


@dataclass(frozen=True, slots=True)
class CacheGrowth:
    """One conversation's caches in one mode, as a function of its tokens."""

    parts: tuple[LayerGrowth, ...]

    def bytes_at(self, tokens: int) -> int:
        """Return the bytes that are allocated once `tokens` tokens were taken and the next is to be written."""
        return sum(p.fixed_bytes + p.rows_at(tokens) * p.row_bytes for p in self.parts)

    @property
    def token_bytes(self) -> int:
        """What one more token costs once all windows are full."""
        return sum(p.row_bytes for p in self.parts if not p.window_tokens)


@dataclass(frozen=True, slots=True)
class Int4Growth:
    """The int4 caches with one scale for `group_size` values."""

    group_size: int
    growth: CacheGrowth


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """The most that a step holds beside weights and caches, estimated (`app.engine.fit` says how)."""

    fixed_bytes: int = 0
    """Whatever the context is: activations of a prefill chunk, and the row of logits."""
    fp16_token_bytes: int = 0
    """For every token of context, with a cache in fp16."""
    int4_token_bytes: int = 0
    """The same in int4: one layer's history is expanded for a prefill chunk."""

    def bytes_at(self, tokens: int, mode: CacheMode) -> int:
        """Return the bytes with `tokens` tokens of context."""
        each = self.int4_token_bytes if mode is CacheMode.INT4 else self.fp16_token_bytes
        return self.fixed_bytes + tokens * each


@dataclass(frozen=True, slots=True)
class Outlook:
    """What this model's caches and the work on them will take on this machine."""

    fp16: CacheGrowth
    int4: tuple[Int4Growth, ...]
    """One for each group size on offer."""
    memory_bytes: int
    """What a program can use here before things slow down or fail; weights are still to be taken off."""
    memory_source: str
    """What `memory_bytes` is, in words that go on a sentence."""
    work: WorkingSet = WorkingSet()

    def within(self, budget_bytes: int) -> "Outlook":
        """Return this outlook with the budget that is set in place of the machine's own; 0 leaves it automatic.

        The one place where a budget is applied: before a model is opened, in its chats, in the list and in the panel.
        """
        return replace(self, memory_bytes=budget_bytes, memory_source=SET_BUDGET) if budget_bytes else self

    def int4_of(self, group_size: int) -> CacheGrowth | None:
        """Return the growth at one group size; None where it was not found out."""
        return next((i.growth for i in self.int4 if i.group_size == group_size), None)

    def growth(self, mode: CacheMode, group_size: int) -> CacheGrowth:
        """Return how one conversation's caches grow. KeyError for a group size that is not on offer."""
        found = self.fp16 if mode is CacheMode.FP16 else self.int4_of(group_size)
        if found is None:
            raise KeyError(group_size)
        return found

    def chat_bytes(self, tokens: int, mode: CacheMode, group_size: int) -> int:
        """Return what one conversation of `tokens` tokens and the work on it take, weights not counted."""
        return self.growth(mode, group_size).bytes_at(tokens) + self.work.bytes_at(tokens, mode)

    def longest(self, weight_bytes: int, limit_tokens: int, mode: CacheMode, group_size: int) -> int:
        """Return the most tokens, up to `limit_tokens`, that fit beside the weights; 0 for none."""
        budget_bytes = self.memory_bytes - weight_bytes
        fits, too_many = 0, limit_tokens + 1
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self.chat_bytes(middle, mode, group_size) <= budget_bytes:
                fits = middle
            else:
                too_many = middle
        return fits
