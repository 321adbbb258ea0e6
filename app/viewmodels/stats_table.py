"""A session's replies as a table that can be sorted by any figure."""

from collections.abc import Sequence
from datetime import datetime
from statistics import median

from PySide6.QtCore import QModelIndex, QObject

from app.chat.options import CacheMode
from app.stats.session import Row
from app.viewmodels.column_table import Column, ColumnTable
from app.viewmodels.panel_state import EXPLANATIONS, UNMEASURED, format_bytes, format_seconds, format_speed

_COLUMNS: tuple[Column[Row], ...] = (
    Column(
        "Time",
        "When the reply was asked for, by this machine's clock.",
        lambda r: _local(r.figures.started_at),
        lambda r: r.figures.started_at,
        is_figure=False,
    ),
    Column(
        "Chat",
        "Title of the chat.",
        lambda r: r.chat_title,
        lambda r: r.chat_title.casefold(),
        lambda r: f"{r.chat_title}\nTitle of the chat.",
        is_figure=False,
    ),
    Column(
        "Cache",
        "The KV cache that was used: int4 as soon as one layer was int4, else fp16.",
        lambda r: r.figures.cache.mode.value,
        lambda r: r.figures.cache.mode.value,
        is_figure=False,
    ),
    Column(
        "Context",
        "Tokens in the KV cache when the reply ended. Counted after the chat template.",
        lambda r: f"{r.figures.cache.tokens:,}",
        lambda r: r.figures.cache.tokens,
    ),
    Column(
        "Decode, tok/s",
        EXPLANATIONS["speed.decode"],
        lambda r: _speed(r.figures.decode_tokens_per_s),
        lambda r: r.figures.decode_tokens_per_s,
    ),
    Column(
        "KV memory",
        EXPLANATIONS["cache.allocated"],
        lambda r: format_bytes(r.figures.cache.allocated_bytes),
        lambda r: r.figures.cache.allocated_bytes,
    ),
    Column(
        "In fp16",
        EXPLANATIONS["cache.fp16"],
        lambda r: format_bytes(r.figures.cache.fp16_allocated_bytes),
        lambda r: r.figures.cache.fp16_allocated_bytes,
    ),
    Column(
        "Ratio",
        EXPLANATIONS["cache.ratio"],
        lambda r: f"{r.figures.cache.ratio:.2f}x" if r.figures.cache.allocated_bytes else UNMEASURED,
        lambda r: r.figures.cache.ratio if r.figures.cache.allocated_bytes else 0.0,
    ),
    Column(
        "First token",
        EXPLANATIONS["speed.ttft"],
        lambda r: format_seconds(r.figures.ttft_s),
        lambda r: r.figures.ttft_s,
    ),
    Column(
        "Prefill, tok/s",
        EXPLANATIONS["speed.prefill"],
        lambda r: _speed(r.figures.prefill_tokens_per_s),
        lambda r: r.figures.prefill_tokens_per_s,
    ),
    Column(
        "Written",
        "Tokens of the reply, end of text included. Counted in the engine.",
        lambda r: f"{r.figures.generated_tokens:,}",
        lambda r: r.figures.generated_tokens,
    ),
    Column(
        "Peak memory",
        EXPLANATIONS["memory.peak"],
        lambda r: format_bytes(r.figures.memory.peak_bytes),
        lambda r: r.figures.memory.peak_bytes,
    ),
    Column(
        "Model",
        "Name of the model's folder.",
        lambda r: r.figures.model,
        lambda r: r.figures.model.casefold(),
        is_figure=False,
    ),
    Column(
        "Ended",
        "Why the reply ended: stop (the model ended it), length (longest reply or context reached) or cancelled.",
        lambda r: r.figures.finish_reason,
        lambda r: r.figures.finish_reason,
        is_figure=False,
    ),
)

HEADINGS = tuple(column.heading for column in _COLUMNS)
CHAT_COLUMN = HEADINGS.index("Chat")
"""The one whose text may be long."""


class StatsTable(ColumnTable[Row]):
    """One line a reply, in the order in which they ended."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(_COLUMNS, parent)

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Show `rows`; where they only got more, what is selected and in view stays."""
        old, new = self._rows, list(rows)
        if new == old:
            return
        if old and new[: len(old)] == old:
            self.beginInsertRows(QModelIndex(), len(old), len(new) - 1)
            self._rows = new
            self.endInsertRows()
        else:
            super().set_rows(new)


def _speed(tokens_per_s: float) -> str:
    """Return a speed without its unit, which the heading has."""
    return format_speed(tokens_per_s).removesuffix(" tokens/s")


def _local(started_at: str) -> str:
    """Return an ISO time by this machine's clock; as it stands where it is none."""
    try:
        return f"{datetime.fromisoformat(started_at).astimezone():%H:%M:%S}"
    except ValueError:
        return started_at


def summary(rows: Sequence[Row]) -> str:
    """Say in a sentence how many replies there are, and the median speed and ratio of each mode."""
    parts = []
    for mode in CacheMode:
        found = [row.figures for row in rows if row.figures.cache.mode is mode]
        if not found:
            continue
        part = f"{len(found)} in {mode.value}"
        said = []
        speeds = [f.decode_tokens_per_s for f in found if f.decode_tokens_per_s > 0]
        if speeds:
            said.append(f"median {format_speed(median(speeds))}")
        ratios = [f.cache.ratio for f in found if f.cache.allocated_bytes]
        if ratios and mode is CacheMode.INT4:
            said.append(f"ratio {median(ratios):.2f}x")
        parts.append(f"{part} ({', '.join(said)})" if said else part)
    return f"{len(rows)} {'reply' if len(rows) == 1 else 'replies'}: {'; '.join(parts)}." if parts else ""
