"""What a conversation's KV cache takes as it grows, and how much memory there is for it. Bytes are ints."""

from dataclasses import dataclass


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

    def longest(self, budget_bytes: int, limit_tokens: int) -> int:
        """Return the most tokens, up to `limit_tokens`, whose caches fit in `budget_bytes`."""
        fits, too_many = 0, limit_tokens + 1
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self.bytes_at(middle) <= budget_bytes:
                fits = middle
            else:
                too_many = middle
        return fits


@dataclass(frozen=True, slots=True)
class Int4Growth:
    """The int4 caches with one scale for `group_size` values."""

    group_size: int
    growth: CacheGrowth


@dataclass(frozen=True, slots=True)
class Outlook:
    """What this model's caches will take on this machine."""

    fp16: CacheGrowth
    int4: tuple[Int4Growth, ...]
    """One for each group size on offer."""
    memory_bytes: int
    """What a program can use here before things slow down or fail; weights are still to be taken off."""
    memory_source: str
    """What `memory_bytes` is, in words that go on a sentence."""

    def int4_of(self, group_size: int) -> CacheGrowth | None:
        """Return the growth at one group size; None where it was not found out."""
        return next((i.growth for i in self.int4 if i.group_size == group_size), None)
