"""Two replies to one prompt, laid beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass


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


def _first_difference(first: Sequence[object], second: Sequence[object]) -> int | None:
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    shorter = min(len(first), len(second))
    return None if len(first) == len(second) else shorter
