"""What a model needs of a machine: weights, caches and the work of a step. Bytes are ints."""

from dataclasses import dataclass, replace

from app.chat.options import CacheMode
from app.chat.outlook import Outlook

OPEN_TOKENS = 4096
"""A model is opened where a chat of this many tokens fits, or of its own limit where that is less."""


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

    @property
    def budget_bytes(self) -> int:
        """What a program can use on this machine, or the budget that is set."""
        return self.outlook.memory_bytes

    def within(self, budget_bytes: int) -> "ModelNeeds":
        """Return the same needs against a budget that is set; 0 leaves it automatic."""
        return replace(self, outlook=self.outlook.within(budget_bytes))

    def bytes_at(self, tokens: int, mode: CacheMode, group_size: int) -> int:
        """Return what weights, one conversation of `tokens` tokens and the work on it take together."""
        return self.weight_bytes + self.outlook.chat_bytes(tokens, mode, group_size)

    def longest(self, mode: CacheMode, group_size: int) -> int:
        """Return the most tokens, up to the model's own limit, for which that fits in the budget; 0 for none."""
        return self.outlook.longest(self.weight_bytes, self.context_limit_tokens, mode, group_size)

    def open_tokens(self) -> int:
        """Return the context for which there must be room when the model is opened."""
        return min(OPEN_TOKENS, self.context_limit_tokens)

    def can_open(self, mode: CacheMode, group_size: int) -> bool:
        """Tell whether a conversation of `open_tokens` tokens fits."""
        return self.bytes_at(self.open_tokens(), mode, group_size) <= self.budget_bytes
