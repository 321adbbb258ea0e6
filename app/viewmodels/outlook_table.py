"""What the live panel says about lengths to come: bytes at a few of them, and the longest that memory allows."""

from dataclasses import dataclass

from app.chat.figures import ModelFacts
from app.chat.options import CacheMode
from app.chat.outlook import CacheGrowth, Outlook
from app.viewmodels.panel_state import UNMEASURED, format_bytes

LENGTHS = (8 * 1024, 32 * 1024, 128 * 1024)
"""Contexts that are looked ahead to, in tokens."""
BEYOND = "†"
MOST_TOKENS = 10**9
"""Beyond that nothing is said of what memory would hold."""
LONGEST = "Longest, in tokens"

_AT = (
    "Bytes that this chat's KV cache would take at {tokens:,} tokens, rows reserved for the next ones included. "
    "Computed from the shapes of this model's own caches: layers with a sliding window stop growing at it, and layers "
    "that stay fp16 count as fp16. 1 MB is 1,000,000 bytes."
)
_LONGEST = (
    "Most tokens whose KV cache and working set fit in memory beside the weights, and never more than the model's own "
    "limit of {limit:,} tokens (config.json). Memory: {memory}, {source}, less {weights} of weights; the working set "
    "is estimated from prefill chunk, widest layer and vocabulary; other programs are not counted. Computed, not tried."
)


@dataclass(frozen=True, slots=True)
class OutlookRow:
    """One line of the table: what it is about, and a figure for each mode."""

    key: str
    label: str
    int4: str
    fp16: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class OutlookTable:
    """All lines, and a note below them ("" for none)."""

    rows: tuple[OutlookRow, ...]
    note: str = ""


def outlook_table(facts: ModelFacts | None, group_size: int) -> OutlookTable:
    """Return the table for a chat whose int4 cache has one scale for `group_size` values; dashes while unknown."""
    outlook = None if facts is None else facts.outlook
    int4 = None if outlook is None else outlook.int4_of(group_size)
    if facts is None or outlook is None or int4 is None:
        unknown = "Known once a model is open."
        rows = [OutlookRow(_key(n), _length(n), UNMEASURED, UNMEASURED, unknown) for n in LENGTHS]
        return OutlookTable((*rows, OutlookRow("longest", LONGEST, UNMEASURED, UNMEASURED, unknown)))
    limit = facts.context_limit_tokens
    beyond = [n for n in LENGTHS if n > limit]
    rows = [_row_at(tokens, outlook, int4, limit) for tokens in LENGTHS]
    weight_bytes = facts.weight_bytes
    longest = [outlook.longest(weight_bytes, limit, mode, group_size) for mode in (CacheMode.INT4, CacheMode.FP16)]
    tooltip = _LONGEST.format(
        limit=limit,
        memory=format_bytes(outlook.memory_bytes),
        source=outlook.memory_source,
        weights=format_bytes(facts.weight_bytes),
    )
    rows.append(OutlookRow("longest", LONGEST, _tokens(longest[0]), _tokens(longest[1]), tooltip))
    notes = [f"{BEYOND} More than this model's own limit of {limit:,} tokens."] if beyond else []
    if limit in longest:
        alone = [
            _rounded(outlook.longest(weight_bytes, MOST_TOKENS, mode, group_size))
            for mode in (CacheMode.INT4, CacheMode.FP16)
        ]
        where = "both modes" if min(longest) == limit else "int4" if longest[0] == limit else "fp16"
        notes.append(
            f"In {where}, longest is the model's limit; memory alone would hold {alone[0]} tokens in int4, {alone[1]} "
            "in fp16."
        )
    return OutlookTable(tuple(rows), " ".join(notes))


def _row_at(tokens: int, outlook: Outlook, int4: CacheGrowth, limit: int) -> OutlookRow:
    held = int4.bytes_at(tokens), outlook.fp16.bytes_at(tokens)
    tooltip = f"{_AT.format(tokens=tokens)} int4: {held[0]:,} bytes; fp16: {held[1]:,} bytes."
    label = _length(tokens)
    if tokens > limit:
        label += f" {BEYOND}"
        tooltip += f" This model itself reads at most {limit:,} tokens."
    return OutlookRow(_key(tokens), label, format_bytes(held[0]), format_bytes(held[1]), tooltip)


def _key(tokens: int) -> str:
    return f"at_{tokens}"


def _length(tokens: int) -> str:
    return f"{tokens // 1024}K tokens"


def _rounded(tokens: int) -> str:
    """Return a number of tokens with two or three digits that matter: it is no promise."""
    if tokens >= MOST_TOKENS:
        return "over a thousand million"
    if tokens < 1000:
        return str(tokens)
    size, unit = (tokens / 1e6, "M") if tokens >= 999_500 else (tokens / 1e3, "K")
    return f"{size:.{1 if size < 99.95 else 0}f}{unit}"


def _tokens(count: int) -> str:
    return f"{count:,}" if count else "none fits"
