"""A session's replies as a table that can be sorted by any figure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from app.chat.options import CacheMode
from app.stats.session import Row
from app.viewmodels.panel_state import EXPLANATIONS, UNMEASURED, format_bytes, format_seconds, format_speed
from app.viewmodels.plain_tooltip import plain_tooltip

SORT_ROLE = int(Qt.ItemDataRole.UserRole)
"""What a column is sorted by: a number, or text in lower case."""
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_ROOT = QModelIndex()

_Key = str | float


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    tooltip: str
    shown: Callable[[Row], str]
    key: Callable[[Row], _Key]
    is_figure: bool = True


_COLUMNS = (
    _Column(
        "Time",
        "When the reply was asked for, by this machine's clock.",
        lambda r: _local(r.figures.started_at),
        lambda r: r.figures.started_at,
        is_figure=False,
    ),
    _Column("Chat", "Title of the chat.", lambda r: r.chat_title, lambda r: r.chat_title.casefold(), is_figure=False),
    _Column(
        "Cache",
        "The KV cache that was used: int4 as soon as one layer was int4, else fp16.",
        lambda r: r.figures.cache.mode.value,
        lambda r: r.figures.cache.mode.value,
        is_figure=False,
    ),
    _Column(
        "Context",
        "Tokens in the KV cache when the reply ended. Counted after the chat template.",
        lambda r: f"{r.figures.cache.tokens:,}",
        lambda r: r.figures.cache.tokens,
    ),
    _Column(
        "Decode, tok/s",
        EXPLANATIONS["speed.decode"],
        lambda r: _speed(r.figures.decode_tokens_per_s),
        lambda r: r.figures.decode_tokens_per_s,
    ),
    _Column(
        "KV memory",
        EXPLANATIONS["cache.allocated"],
        lambda r: format_bytes(r.figures.cache.allocated_bytes),
        lambda r: r.figures.cache.allocated_bytes,
    ),
    _Column(
        "In fp16",
        EXPLANATIONS["cache.fp16"],
        lambda r: format_bytes(r.figures.cache.fp16_allocated_bytes),
        lambda r: r.figures.cache.fp16_allocated_bytes,
    ),
    _Column(
        "Ratio",
        EXPLANATIONS["cache.ratio"],
        lambda r: f"{r.figures.cache.ratio:.2f}x" if r.figures.cache.allocated_bytes else UNMEASURED,
        lambda r: r.figures.cache.ratio if r.figures.cache.allocated_bytes else 0.0,
    ),
    _Column(
        "First token",
        EXPLANATIONS["speed.ttft"],
        lambda r: format_seconds(r.figures.ttft_s),
        lambda r: r.figures.ttft_s,
    ),
    _Column(
        "Prefill, tok/s",
        EXPLANATIONS["speed.prefill"],
        lambda r: _speed(r.figures.prefill_tokens_per_s),
        lambda r: r.figures.prefill_tokens_per_s,
    ),
    _Column(
        "Written",
        "Tokens of the reply, end of text included. Counted in the engine.",
        lambda r: f"{r.figures.generated_tokens:,}",
        lambda r: r.figures.generated_tokens,
    ),
    _Column(
        "Peak memory",
        EXPLANATIONS["memory.peak"],
        lambda r: format_bytes(r.figures.memory.peak_bytes),
        lambda r: r.figures.memory.peak_bytes,
    ),
    _Column(
        "Model",
        "Name of the model's folder.",
        lambda r: r.figures.model,
        lambda r: r.figures.model.casefold(),
        is_figure=False,
    ),
    _Column(
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


class StatsTable(QAbstractTableModel):
    """One line a reply, in the order in which they ended."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: tuple[Row, ...] = ()

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Show `rows`; where they only got more, what is selected and in view stays."""
        old, new = self._rows, tuple(rows)
        if new == old:
            return
        if old and new[: len(old)] == old:
            self.beginInsertRows(_ROOT, len(old), len(new) - 1)
            self._rows = new
            self.endInsertRows()
        else:
            self.beginResetModel()
            self._rows = new
            self.endResetModel()

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        """Return how many replies there are."""
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        """Return how many columns there are."""
        return 0 if parent.isValid() else len(_COLUMNS)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell's text, what it is sorted by, where it stands, and its words."""
        row, column = self._rows[index.row()], _COLUMNS[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.shown(row)
        if role == SORT_ROLE:
            key = column.key(row)
            # Qt compares by the type of one side: beside an int of 32 bits a larger one would be cut to that.
            return float(key) if isinstance(key, int) else key
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _RIGHT if column.is_figure else _LEFT
        if role == Qt.ItemDataRole.ToolTipRole:
            said = plain_tooltip(f"{column.shown(row)}\n{column.tooltip}")
            return said if column.heading == "Chat" else column.tooltip
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{column.heading}: {column.shown(row)}"
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a column's heading, and what it says."""
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return _COLUMNS[section].heading
        if role == Qt.ItemDataRole.ToolTipRole:
            return _COLUMNS[section].tooltip
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _RIGHT if _COLUMNS[section].is_figure else _LEFT
        return None


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
