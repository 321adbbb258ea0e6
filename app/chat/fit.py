"""What a model needs of a machine: weights, caches and the work of a step. Bytes are ints."""

from dataclasses import dataclass

from app.chat.options import CacheMode
from app.chat.outlook import CacheGrowth, Outlook

OPEN_TOKENS = 4096
"""A model is opened where a chat of this many tokens fits, or of its own limit where that is less."""


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """The most that a step holds beside weights and caches, estimated (`app.engine.fit` says how)."""

    fixed_bytes: int
    """Whatever the context is: activations of a prefill chunk, and the row of logits."""
    fp16_token_bytes: int
    """For every token of context, with a cache in fp16."""
    int4_token_bytes: int
    """The same in int4: one layer's history is expanded for a prefill chunk."""

    def bytes_at(self, tokens: int, mode: CacheMode) -> int:
        """Return the bytes with `tokens` tokens of context."""
        each = self.int4_token_bytes if mode is CacheMode.INT4 else self.fp16_token_bytes
        return self.fixed_bytes + tokens * each


@dataclass(frozen=True, slots=True)
class ModelNeeds:
    """A model's needs, found out from its config or its folder before any weight is read."""

    architecture: str
    parameters: int
    stored_bytes: int
    """Weights as their files hold them; what the model's classes do not use is left out."""
    weight_bytes: int
    """The same in memory: more where weights are expanded, as 4-bit ones are on a CPU."""
    context_limit_tokens: int
    layers: int
    """Layers that have a cache."""
    int4_layers: int
    outlook: Outlook
    work: WorkingSet

    @property
    def budget_bytes(self) -> int:
        """What a program can use on this machine."""
        return self.outlook.memory_bytes

    def growth(self, mode: CacheMode, group_size: int) -> CacheGrowth:
        """Return how one conversation's caches grow. KeyError for a group size that is not on offer."""
        if mode is CacheMode.FP16:
            return self.outlook.fp16
        found = self.outlook.int4_of(group_size)
        if found is None:
            raise KeyError(group_size)
        return found

    def bytes_at(self, tokens: int, mode: CacheMode, group_size: int) -> int:
        """Return what weights, one conversation of `tokens` tokens and the work on it take together."""
        kv_bytes = self.growth(mode, group_size).bytes_at(tokens)
        return self.weight_bytes + kv_bytes + self.work.bytes_at(tokens, mode)

    def longest(self, mode: CacheMode, group_size: int) -> int:
        """Return the most tokens, up to the model's own limit, for which that fits in the budget; 0 for none."""
        fits, too_many = 0, self.context_limit_tokens + 1
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self.bytes_at(middle, mode, group_size) <= self.budget_bytes:
                fits = middle
            else:
                too_many = middle
        return fits

    def open_tokens(self) -> int:
        """Return the context for which there must be room when the model is opened."""
        return min(OPEN_TOKENS, self.context_limit_tokens)

    def can_open(self, mode: CacheMode, group_size: int) -> bool:
        """Tell whether a conversation of `open_tokens` tokens fits."""
        return self.bytes_at(self.open_tokens(), mode, group_size) <= self.budget_bytes
