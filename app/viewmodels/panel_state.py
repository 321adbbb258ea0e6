"""What the live panel shows, as text and a few numbers to draw. Pure: no Qt, no clock.

A figure that was not measured yet is an en dash, never a zero that looks measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.chat.figures import CacheFigures, LayerNote, MemoryFigures, ModelFacts, ReplyFigures
from app.chat.options import CacheMode, ChatOptions
from app.engine.protocol import Prefill, Progress

UNMEASURED = "–"

EXPLANATIONS = {
    "cache.used": "Bytes of this chat's keys and values that hold a token, over all layers, scales included. "
    "Counted from the shapes of the arrays. 1 MB is 1,000,000 bytes.",
    "cache.allocated": "Bytes reserved for this chat's keys and values, over all layers; the cache grows 256 tokens at "
    "a time. Counted from the shapes of the arrays. 1 MB is 1,000,000 bytes.",
    "cache.fp16": "What mlx-lm's own cache would hold for the same rows at 16 bits a value, rows reserved for the next "
    "tokens included. Computed from the shapes of the arrays. 1 MB is 1,000,000 bytes.",
    "cache.ratio": "fp16's allocated bytes divided by this cache's allocated bytes. No unit; 1.00x is no saving.",
    "cache.layers": "Layers whose cache is held in int4, of all layers that have a cache. Read from the caches in use; "
    "layers are numbered from 0, as in the model's files.",
    "cache.path": "The device MLX computes attention over this cache on: Metal, CUDA or the CPU, and how: by MLX's own "
    "operations or by a kernel of Nibble's.",
    "speed.decode": "New tokens a second after the first one: (tokens - 1) / (time since the first token). "
    "Measured in the engine by a monotonic clock.",
    "speed.prefill": "Prompt tokens read a second, tokens reused from the cache not counted, nor the time to load a "
    "cache from disk. Measured in the engine "
    "by a monotonic clock.",
    "speed.ttft": "Time to first token, in seconds: from the moment the engine takes up the request; waiting behind "
    "another request is not counted. Measured in the engine by a monotonic clock.",
    "context.used": "Tokens in this chat's cache, and the longest context the model's config.json allows. Counted "
    "after the chat template.",
    "context.reused": "Tokens of the prompt that were in the cache already and were not read for this reply. From "
    "disk: the cache was saved when the chat was left, and was loaded for this reply; that is part of the time to "
    "first token, and no part of prefill's speed.",
    "memory.active": "Bytes in use by MLX in the engine's process: weights, caches, work space. Reported by MLX's "
    "allocator. 1 MB is 1,000,000 bytes.",
    "memory.peak": "Highest active memory since this reply began. Reported by MLX's allocator. "
    "1 MB is 1,000,000 bytes.",
    "memory.pool": "Freed buffers that MLX keeps for reuse, on top of active memory. Reported by MLX's allocator. "
    "1 MB is 1,000,000 bytes.",
    "memory.process": "All that the engine's process takes, active memory, pool, Python and libraries, as the system "
    "counts it. 1 MB is 1,000,000 bytes.",
}
"""What each figure is, its unit and how it is measured; by row key."""

LABELS = {
    "cache.used": "Used",
    "cache.allocated": "Allocated",
    "cache.fp16": "The same in fp16",
    "cache.ratio": "Ratio",
    "cache.layers": "Layers in int4",
    "cache.path": "Attention path",
    "speed.decode": "Decode",
    "speed.prefill": "Prefill",
    "speed.ttft": "Time to first token",
    "context.used": "Used",
    "context.reused": "Reused",
    "memory.active": "Active",
    "memory.peak": "Peak",
    "memory.pool": "Pool",
    "memory.process": "Process",
}


@dataclass(frozen=True, slots=True)
class PanelRow:
    """One figure. The part of `key` before the dot is the section it stands in."""

    key: str
    label: str
    value: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class PanelState:
    """All that the live panel shows at one moment."""

    rows: tuple[PanelRow, ...]
    used_bytes: int
    allocated_bytes: int
    fp16_used_bytes: int
    fp16_allocated_bytes: int
    headline: str
    mode_line: str
    mode: CacheMode
    group_size: int
    """Values that share one scale; 0 in fp16."""
    layer_notes: tuple[str, ...]
    """Why layers are not int4, one sentence a group of layers."""
    context_tokens: int
    context_limit_tokens: int
    speeds: tuple[float, ...]
    """Recent decode speeds in tokens per second, each over the time since the one before, oldest first."""
    status: str = ""
    """What the engine is busy with, where the figures do not say it."""

    def value(self, key: str) -> str:
        """Return the shown text of one row."""
        return next(row.value for row in self.rows if row.key == key)

    @property
    def used_share(self) -> float:
        """Used bytes as a share of the longer bar."""
        return self.used_bytes / self._longest if self._longest else 0.0

    @property
    def allocated_share(self) -> float:
        """Allocated bytes as a share of the longer bar."""
        return self.allocated_bytes / self._longest if self._longest else 0.0

    @property
    def fp16_used_share(self) -> float:
        """What fp16 would use, as a share of the longer bar."""
        return self.fp16_used_bytes / self._longest if self._longest else 0.0

    @property
    def fp16_allocated_share(self) -> float:
        """What fp16 would allocate, as a share of the longer bar."""
        return self.fp16_allocated_bytes / self._longest if self._longest else 0.0

    @property
    def context_share(self) -> float:
        """Context used, 0..1; 0 where the limit is not known."""
        return min(1.0, self.context_tokens / self.context_limit_tokens) if self.context_limit_tokens else 0.0

    @property
    def speeds_text(self) -> str:
        """The sparkline in words."""
        if not self.speeds:
            return "Recent decode speed: not measured yet."
        return (
            f"Recent decode speed: now {format_speed(self.speeds[-1])}, lowest {format_speed(min(self.speeds))}, "
            f"highest {format_speed(max(self.speeds))} over the last {len(self.speeds)} readings."
        )

    @property
    def _longest(self) -> int:
        return max(self.allocated_bytes, self.fp16_allocated_bytes)


def empty_panel(model: ModelFacts | None, options: ChatOptions) -> PanelState:
    """Return the panel before anything was cached: what is chosen and known, and dashes for the rest."""
    values: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if model is not None:
        int4 = model.int4_layers if options.cache_mode is CacheMode.INT4 else 0
        values["cache.layers"] = _layers(int4, model.layers)
        notes = _notes(options.cache_mode, int4, model.layers, model.notes)
    limit = model.context_limit_tokens if model is not None else 0
    values["context.used"] = f"{UNMEASURED} of {limit:,} tokens" if limit else UNMEASURED
    dtype = model.compute_dtype if model is not None else ""
    return PanelState(
        rows=_rows(values, {}),
        used_bytes=0,
        allocated_bytes=0,
        fp16_used_bytes=0,
        fp16_allocated_bytes=0,
        headline="Nothing cached yet" if model is not None else "No model open",
        mode_line=mode_line(options.cache_mode, options.group_size, dtype),
        mode=options.cache_mode,
        group_size=_group_size(options.cache_mode, options.group_size),
        layer_notes=notes,
        context_tokens=0,
        context_limit_tokens=limit,
        speeds=(),
    )


def panel_of(
    cache: CacheFigures,
    memory: MemoryFigures,
    ttft_s: float,
    prefill_tokens_per_s: float,
    decode_tokens_per_s: float,
    context_limit_tokens: int,
    speeds: Sequence[float],
    compute_dtype: str = "",
    reused_tokens: int = 0,
    disk_tokens: int = 0,
) -> PanelState:
    """Return the panel of a reply that is being written, or was.

    Times and speeds of 0 were not measured. `compute_dtype` names the 16-bit type of an fp16 cache, where known.
    """
    counts = {
        "cache.used": cache.used_bytes,
        "cache.allocated": cache.allocated_bytes,
        "cache.fp16": cache.fp16_allocated_bytes,
        "memory.active": memory.active_bytes,
        "memory.peak": memory.peak_bytes,
        "memory.pool": memory.pool_bytes,
        "memory.process": memory.process_bytes,
    }
    values = {key: format_bytes(count) for key, count in counts.items()}
    values |= {
        "cache.ratio": f"{cache.ratio:.2f}x" if cache.allocated_bytes else UNMEASURED,
        "cache.layers": _layers(cache.layers_int4, cache.layers_total),
        "cache.path": cache.path or UNMEASURED,
        "speed.decode": format_speed(decode_tokens_per_s),
        "speed.prefill": format_speed(prefill_tokens_per_s),
        "speed.ttft": format_seconds(ttft_s),
        "context.used": _context(cache.tokens, context_limit_tokens),
        "context.reused": _reused(reused_tokens, disk_tokens),
    }
    exact = {key: f"Now {count:,} bytes." for key, count in counts.items()}
    if memory.process_bytes:
        exact["memory.process"] = f"Measured as {memory.process_measure}. {exact['memory.process']}"
    else:
        values["memory.process"], exact["memory.process"] = UNMEASURED, "It was not measured for this reply."
    return PanelState(
        rows=_rows(values, exact),
        used_bytes=cache.used_bytes,
        allocated_bytes=cache.allocated_bytes,
        fp16_used_bytes=cache.fp16_used_bytes,
        fp16_allocated_bytes=cache.fp16_allocated_bytes,
        headline=_headline(cache),
        mode_line=mode_line(cache.mode, cache.group_size, compute_dtype),
        mode=cache.mode,
        group_size=_group_size(cache.mode, cache.group_size),
        layer_notes=_notes(cache.mode, cache.layers_int4, cache.layers_total, cache.notes),
        context_tokens=cache.tokens,
        context_limit_tokens=context_limit_tokens,
        speeds=tuple(speeds),
    )


def progress_panel(event: Progress, model: ModelFacts | None, speeds: Sequence[float]) -> PanelState:
    """Return the panel of a reply under way."""
    return panel_of(
        event.cache,
        event.memory,
        event.ttft_s,
        event.prefill_tokens_per_s,
        event.decode_tokens_per_s,
        model.context_limit_tokens if model is not None else 0,
        speeds,
        model.compute_dtype if model is not None else "",
        event.reused_tokens,
        event.disk_tokens,
    )


def reply_panel(figures: ReplyFigures, speeds: Sequence[float] = ()) -> PanelState:
    """Return the panel of a reply that has ended."""
    return panel_of(
        figures.cache,
        figures.memory,
        figures.ttft_s,
        figures.prefill_tokens_per_s,
        figures.decode_tokens_per_s,
        figures.context_limit_tokens,
        speeds,
        figures.compute_dtype,
        figures.reused_tokens,
        figures.disk_tokens,
    )


def asked_panel(previous: PanelState, model: ModelFacts | None, options: ChatOptions) -> PanelState:
    """Return the panel at the moment a reply is asked for.

    The cache is shown as it was last counted, unless another one is asked for; this reply's speeds are still open.
    """
    if (previous.mode, previous.group_size) != (
        options.cache_mode,
        _group_size(options.cache_mode, options.group_size),
    ):
        return empty_panel(model, options)
    rows = tuple(
        replace(row, value=UNMEASURED) if row.key.startswith("speed.") or row.key == "context.reused" else row
        for row in previous.rows
    )
    return replace(previous, rows=rows, speeds=(), status="")


def prefill_panel(previous: PanelState, event: Prefill) -> PanelState:
    """Return `previous` with how far the prompt is read; the figures come beside it, as Progress."""
    status = f"Reading {event.done_tokens:,} of {event.total_tokens:,} new tokens"
    if event.disk_tokens:
        status += f", {event.disk_tokens:,} continued from disk"
    elif event.reused_tokens:
        status += f", {event.reused_tokens:,} reused"
    return replace(previous, status=status)


def mode_line(mode: CacheMode, group_size: int, compute_dtype: str = "") -> str:
    """Say in one line how the cache is held."""
    if mode is CacheMode.INT4:
        return f"int4, one scale for {group_size} values: {4 + 16 / group_size:g} bits a value"
    return f"fp16, as mlx-lm keeps it: 16 bits a value{f' ({compute_dtype})' if compute_dtype else ''}"


def format_bytes(count: int) -> str:
    """Return bytes with three digits that matter, in decimal units: 1 MB is 1,000,000 bytes."""
    size, unit = float(count), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    if unit == "bytes":
        return f"{count} {'byte' if count == 1 else unit}"
    return f"{size:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f} {unit}"


def format_speed(tokens_per_s: float) -> str:
    """Return tokens per second; a dash for 0, which stands for not measured."""
    if tokens_per_s <= 0:
        return UNMEASURED
    return f"{tokens_per_s:,.{0 if tokens_per_s >= 999.5 else 1}f} tokens/s"


def format_seconds(seconds: float) -> str:
    """Return a time as ms, s or min; a dash for 0, which stands for not measured."""
    if seconds <= 0:
        return UNMEASURED
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def format_layers(layers: Sequence[int]) -> str:
    """Return layer numbers with runs folded: `Layers 0–3, 7`."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    text = ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)
    return f"Layer {text}" if len(layers) == 1 else f"Layers {text}"


def _rows(values: dict[str, str], exact: dict[str, str]) -> tuple[PanelRow, ...]:
    return tuple(
        PanelRow(key, label, values.get(key, UNMEASURED), f"{EXPLANATIONS[key]} {exact.get(key, '')}".rstrip())
        for key, label in LABELS.items()
    )


def _headline(cache: CacheFigures) -> str:
    if not cache.allocated_bytes:
        return "Nothing cached yet"
    if cache.mode is CacheMode.FP16:
        return "Held in fp16: nothing saved"
    if cache.ratio >= 1.005:
        return f"{cache.ratio:.2f}x smaller than fp16"
    if cache.ratio > 0.995:
        return "As large as fp16"
    return f"{1 / cache.ratio:.2f}x larger than fp16"


def _group_size(mode: CacheMode, group_size: int) -> int:
    return group_size if mode is CacheMode.INT4 else 0


def _layers(int4: int, total: int) -> str:
    return f"{int4} of {total}"


def _context(tokens: int, limit: int) -> str:
    if not limit:
        return f"{tokens:,} tokens"
    return f"{tokens:,} of {limit:,} tokens ({100 * tokens / limit:.0f} %)"


def _reused(tokens: int, from_disk: int) -> str:
    if from_disk:
        return f"{from_disk:,} tokens, from disk"
    return f"{tokens:,} tokens" if tokens else "none"


def _notes(mode: CacheMode, int4: int, total: int, notes: Sequence[LayerNote]) -> tuple[str, ...]:
    if mode is CacheMode.FP16:
        return ("This chat's cache mode is fp16: every layer is kept in fp16.",)
    if not notes and int4 < total:
        return (f"{total - int4} of {total} layers stay fp16; the engine gave no reason.",)
    return tuple(f"{format_layers(note.layers)}: {note.reason}" if note.layers else note.reason for note in notes)
