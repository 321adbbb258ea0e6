"""What a person may choose for a reply: cache mode, sampling, system prompt."""

from dataclasses import dataclass, field
from enum import StrEnum


class CacheMode(StrEnum):
    """How the conversation's KV cache is held."""

    INT4 = "int4"
    """4-bit codes with one fp16 scale a group (Nibble's own cache)."""
    FP16 = "fp16"
    """mlx-lm's own cache: the model's 16-bit type, float16 or bfloat16."""


GROUP_SIZES = (32, 64)
"""Values that share one scale, along the head dimension: 4.5 and 4.25 bits a value."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. `temperature` 0 is greedy and deterministic; the rest is then ignored."""

    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    """0 keeps all tokens."""
    min_p: float = 0.0
    max_tokens: int = 512
    """Most tokens in one reply."""
    seed: int | None = None
    """None draws a new seed for every reply; the seed used stands in its figures."""


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """All that one conversation may set for itself."""

    cache_mode: CacheMode = CacheMode.INT4
    group_size: int = 32
    system_prompt: str = ""
    sampling: Sampling = field(default_factory=Sampling)
