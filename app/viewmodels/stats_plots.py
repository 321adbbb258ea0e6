"""A session's two plots, as points in a unit square with their axes and their words. Pure: no Qt."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.chat.options import CacheMode
from app.stats.session import Row
from app.viewmodels.panel_state import format_bytes, format_speed

MOST_TICKS = 5
_CONTEXT = "Context, tokens in the cache when the reply ended"


@dataclass(frozen=True, slots=True)
class Mark:
    """One reply: its place, 0..1 from the left and from the bottom, and what it says."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """The replies of one mode."""

    mode: CacheMode
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from zero: places from 0 to 1, and what stands there."""

    title: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot with everything that is drawn, and the same in words."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    text: str


def speed_plot(rows: Sequence[Row]) -> Plot:
    """Return decode speed against context length; replies whose speed was not measured are left out."""
    return _plot(
        "Decode speed",
        "Decode speed, tokens/s",
        [row for row in rows if row.figures.decode_tokens_per_s > 0],
        lambda row: row.figures.decode_tokens_per_s,
        format_speed,
        lambda top: _ticks(top, lambda v: f"{v:,g}"),
        "Tokens a second after the first one, measured in the engine by a monotonic clock.",
    )


def memory_plot(rows: Sequence[Row]) -> Plot:
    """Return the KV cache's allocated bytes against context length."""
    return _plot(
        "KV memory",
        "KV memory, allocated",
        [row for row in rows if row.figures.cache.allocated_bytes],
        lambda row: float(row.figures.cache.allocated_bytes),
        lambda value: format_bytes(round(value)),
        _byte_ticks,
        "Counted from the shapes of the arrays, rows reserved for the next tokens included. 1 MB is 1,000,000 bytes.",
    )


def _plot(
    title: str,
    y_title: str,
    rows: Sequence[Row],
    value: Callable[[Row], float],
    shown: Callable[[float], str],
    ticks: Callable[[float], tuple[float, tuple[tuple[float, str], ...]]],
    how: str,
) -> Plot:
    width, x_ticks = _ticks(max((row.figures.cache.tokens for row in rows), default=0), lambda v: f"{v:,.0f}", least=1)
    height, y_ticks = ticks(max(map(value, rows), default=0.0))
    series = []
    for mode in CacheMode:
        marks = tuple(
            Mark(
                row.figures.cache.tokens / width,
                value(row) / height,
                f"{row.chat_title}: {shown(value(row))} in {mode.value} at {row.figures.cache.tokens:,} tokens",
            )
            for row in rows
            if row.figures.cache.mode is mode
        )
        if marks:
            series.append(Series(mode, marks))
    words = _words(title, rows, value, shown, how)
    return Plot(title, Axis(_CONTEXT, x_ticks), Axis(y_title, y_ticks), tuple(series), words)


def _words(
    title: str, rows: Sequence[Row], value: Callable[[Row], float], shown: Callable[[float], str], how: str
) -> str:
    parts = [f"{title} against context length."]
    for mode in CacheMode:
        found = sorted((r for r in rows if r.figures.cache.mode is mode), key=lambda r: r.figures.cache.tokens)
        if not found:
            continue
        first, last = found[0], found[-1]
        said = f"{shown(value(first))} at {first.figures.cache.tokens:,} tokens"
        if len(found) > 1:
            said += f" to {shown(value(last))} at {last.figures.cache.tokens:,}"
        parts.append(f"{mode.value}, {len(found)} {'reply' if len(found) == 1 else 'replies'}: {said}.")
    if len(parts) == 1:
        parts.append("Nothing measured yet.")
    return " ".join((*parts, how))


def _byte_ticks(top: float) -> tuple[float, tuple[tuple[float, str], ...]]:
    size, unit = top, "bytes"
    scale = 1.0
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit, scale = size / 1000, larger, scale * 1000
    return _ticks(top, lambda v: f"{v / scale:g} {unit}" if v else "0")


def _ticks(
    top: float, shown: Callable[[float], str], least: float = 0.0
) -> tuple[float, tuple[tuple[float, str], ...]]:
    """Return the axis' end, at or above `top`, and round numbers along it; with `least`, multiples of it."""
    if top <= 0:
        return 1.0, ((0.0, shown(0.0)),)
    rough = max(top / (MOST_TICKS - 1), least)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [power * digit for digit in (1, 2, 2.5, 5, 10)]
    step = next(s for s in steps if s >= rough * (1 - 1e-9) and (not least or s % least == 0))
    count = math.ceil(top / step - 1e-9)
    return step * count, tuple((i / count, shown(step * i)) for i in range(count + 1))
