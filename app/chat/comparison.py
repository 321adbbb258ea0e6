"""Two replies to one prompt, laid beside each other."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.chat.figures import ReplyFigures


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where two replies part, and how far they agree.

    Positions count from 0; None means that the replies never part. After the first parting each reply goes its own way,
    so `agreement` (equal tokens at equal positions over the longer reply's length) says how much of the answer a reader
    would have found the same, not how good the second one is.
    """

    first_different_token: int | None
    first_different_char: int | None
    agreement: float


def compare_replies(first_ids: Sequence[int], second_ids: Sequence[int], first: str, second: str) -> Comparison:
    """Compare two replies, given as token ids and as text."""
    longer = max(len(first_ids), len(second_ids))
    equal = sum(a == b for a, b in zip(first_ids, second_ids, strict=False))
    return Comparison(
        first_different_token=_first_difference(first_ids, second_ids),
        first_different_char=_first_difference(first, second),
        agreement=equal / longer if longer else 1.0,
    )


@dataclass(frozen=True, slots=True)
class Round:
    """The figures of both replies of one round."""

    fp16: ReplyFigures
    int4: ReplyFigures


@dataclass(frozen=True, slots=True)
class KeptComparison:
    """A comparison as it is kept and exported."""

    conversation_id: int | None
    """The conversation it was made beside; None for one without messages, in which case it lasts for the session."""
    made_at: str
    """UTC, ISO 8601."""
    prompt: str
    conditions: str
    """The settings of both replies, in words."""
    fp16_text: str
    int4_text: str
    comparison: Comparison
    rounds: tuple[Round, ...]


def median_figures(rounds: Sequence[ReplyFigures]) -> ReplyFigures:
    """Return one mode's figures, with the median over all rounds of what is measured anew in each."""
    return _over(rounds, statistics.median)


def spread_figures(rounds: Sequence[ReplyFigures]) -> tuple[ReplyFigures, ReplyFigures]:
    """Return one mode's figures with the least, and with the most, of what is measured anew in each round."""
    return _over(rounds, min), _over(rounds, max)


def _over(rounds: Sequence[ReplyFigures], pick: Callable[[list[float]], float]) -> ReplyFigures:
    first = rounds[0]
    return replace(
        first,
        ttft_s=pick([f.ttft_s for f in rounds]),
        prefill_tokens_per_s=pick([f.prefill_tokens_per_s for f in rounds]),
        decode_tokens_per_s=pick([f.decode_tokens_per_s for f in rounds]),
        elapsed_s=pick([f.elapsed_s for f in rounds]),
        memory=replace(first.memory, peak_bytes=round(pick([f.memory.peak_bytes for f in rounds]))),
    )


def _first_difference(first: Sequence[object], second: Sequence[object]) -> int | None:
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    shorter = min(len(first), len(second))
    return None if len(first) == len(second) else shorter
