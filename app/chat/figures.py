"""The figures Nibble shows, stores and exports. Bytes are ints, times are seconds, speeds are tokens per second."""

from dataclasses import dataclass

from app.chat.options import CacheMode
from app.chat.outlook import Outlook


@dataclass(frozen=True, slots=True)
class LayerNote:
    """Why some layers' cache is not int4."""

    layers: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """One conversation's KV cache at one moment.

    "used" counts the rows that hold a token, "allocated" the rows reserved for them: caches grow in steps of 256.
    The fp16 figures are the same rows at two bytes a value, as mlx-lm's own cache keeps them. (mlx-lm may reserve up to
    255 rows fewer or more than int4 does, depending on how a conversation was cut into turns; that is left out.)
    """

    mode: CacheMode
    group_size: int
    path: str
    """The device MLX computes attention on, `metal`, `cuda` or `cpu`, and how."""
    tokens: int
    used_bytes: int
    allocated_bytes: int
    fp16_used_bytes: int
    fp16_allocated_bytes: int
    layers_int4: int
    layers_total: int
    """Layers that have a cache. A layer that shares another's cache is not counted."""
    notes: tuple[LayerNote, ...] = ()

    @property
    def ratio(self) -> float:
        """fp16's allocated bytes over this cache's; 1.0 while nothing is allocated."""
        return self.fp16_allocated_bytes / self.allocated_bytes if self.allocated_bytes else 1.0


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """What the engine's process holds, in bytes: by MLX's allocator, and by the system."""

    active_bytes: int
    peak_bytes: int
    """Highest `active_bytes` since the reply began."""
    pool_bytes: int
    """Freed buffers kept for reuse; not part of `active_bytes`."""
    process_bytes: int = 0
    """The whole process; 0 where it was not measured."""
    process_measure: str = ""
    """How the system counted it, in words."""


@dataclass(frozen=True, slots=True)
class ReplyFigures:
    """All that was measured of one reply."""

    model: str
    started_at: str
    """UTC, ISO 8601."""
    requested_mode: CacheMode
    cache: CacheFigures
    memory: MemoryFigures
    prompt_tokens: int
    """Tokens of the whole prompt after the chat template."""
    reused_tokens: int
    """Of those, already in the cache."""
    prefilled_tokens: int
    """Of those, read now."""
    generated_tokens: int
    """End-of-text token included."""
    ttft_s: float
    """From the moment the engine takes the request up to the first token; waiting behind another is not in it."""
    prefill_tokens_per_s: float
    """prefilled / ttft, from which the time to load a conversation's file is taken off."""
    decode_tokens_per_s: float
    """(generated - 1) / (elapsed - ttft); 0 with fewer than two tokens."""
    elapsed_s: float
    context_limit_tokens: int
    seed: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    max_tokens: int
    finish_reason: str
    """`stop` (the model ended), `length` (max_tokens or context limit), `cancelled`, or `memory` (the budget)."""
    compute_dtype: str = ""
    """The model's own type, which is that of an fp16 cache: `float16` or `bfloat16`."""
    disk_tokens: int = 0
    """Of the reused tokens, those that came from the conversation's file on disk: all or none."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Where and with what the figures were measured."""

    machine: str
    """Chip or processor, as the system names it."""
    memory_bytes: int
    os: str
    device: str
    """MLX's default device: `gpu` or `cpu`."""
    backend: str
    """`metal`, `cuda` or `cpu`."""
    nibble_version: str
    python_version: str
    mlx_version: str
    mlx_lm_version: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A loaded model, as far as the window needs to know it."""

    name: str
    path: str
    architecture: str
    parameters: int
    weight_bytes: int
    layers: int
    context_limit_tokens: int
    compute_dtype: str
    int4_layers: int
    """Layers whose cache can be int4."""
    notes: tuple[LayerNote, ...]
    remarks: tuple[str, ...] = ()
    """What else a person should know, such as weights expanded because this device has no fast path for them."""
    outlook: Outlook | None = None
    """What its caches will take; None where nobody found out."""
