"""Why a chat was stopped for want of memory: what it takes, by its parts, and what the budget is. Bytes are ints."""

from dataclasses import dataclass

from app.chat.figures import ModelFacts
from app.chat.options import CacheMode
from app.chat.outlook import Outlook


@dataclass(frozen=True, slots=True)
class Shortage:
    """A conversation that its budget does not hold."""

    tokens: int
    """What the conversation has with its next token."""
    mode: CacheMode
    weight_bytes: int
    cache_bytes: int
    """This conversation's KV cache at `tokens`; the other conversations' are dropped before anything is stopped."""
    work_bytes: int
    budget_bytes: int
    budget_source: str
    """What the budget is, in words that go on a sentence."""
    own_tokens: int
    """The longest conversation that the budget holds in `mode`; 0 for none."""
    int4_tokens: int
    """The same in int4."""
    int4_bytes: int
    """What this conversation would take in int4, weights and work included."""
    process_bytes: int = 0
    """What the engine's process holds by the system's count, where that is what passed the budget; otherwise 0."""

    @property
    def needed_bytes(self) -> int:
        """The budget that would hold the conversation with its next token."""
        return max(self.weight_bytes + self.cache_bytes + self.work_bytes, self.process_bytes)

    @property
    def int4_would_fit(self) -> bool:
        """Whether the conversation could go on in int4."""
        return self.mode is CacheMode.FP16 and not self.process_bytes and self.int4_tokens > self.tokens

    @property
    def text(self) -> str:
        """The numbers, in a sentence."""
        more = (
            f"That is {size_text(self.needed_bytes - self.budget_bytes)} more than the memory budget of "
            f"{size_text(self.budget_bytes)} ({self.budget_source})."
        )
        if self.process_bytes:
            process = f"the engine's process holds {size_text(self.process_bytes)} for the model and its chats"
            return f"At {self.tokens:,} tokens {process}. {more}"
        return (
            f"A chat of {self.tokens:,} tokens takes {size_text(self.needed_bytes)}: {size_text(self.weight_bytes)} "
            f"for weights, {size_text(self.cache_bytes)} for the KV cache in {self.mode.value} and "
            f"{size_text(self.work_bytes)} to work in. {more}"
        )


def shortage_of(
    facts: ModelFacts, outlook: Outlook, mode: CacheMode, group_size: int, tokens: int, process_bytes: int = 0
) -> Shortage:
    """Return why a conversation of `tokens` tokens does not fit in the memory of `outlook`, which is of this model."""

    def longest(of: CacheMode) -> int:
        return outlook.longest(facts.weight_bytes, facts.context_limit_tokens, of, group_size)

    return Shortage(
        tokens=tokens,
        mode=mode,
        weight_bytes=facts.weight_bytes,
        cache_bytes=outlook.growth(mode, group_size).bytes_at(tokens),
        work_bytes=outlook.work.bytes_at(tokens, mode),
        budget_bytes=outlook.memory_bytes,
        budget_source=outlook.memory_source,
        own_tokens=longest(mode),
        int4_tokens=longest(CacheMode.INT4),
        int4_bytes=facts.weight_bytes + outlook.chat_bytes(tokens, CacheMode.INT4, group_size),
        process_bytes=process_bytes,
    )


def size_text(size: int) -> str:
    """Return bytes as GB, MB or KB, each from a tenth of it on; 1 GB is 1,000,000,000 bytes."""
    if size >= 100_000_000:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} KB"
