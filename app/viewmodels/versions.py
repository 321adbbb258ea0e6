"""Versions of a message: what was said in its place, before it was edited or written again."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Versions:
    """Which version of a message is open, and the ids of its neighbours; None at the ends."""

    text: str
    """"2 of 3"."""
    previous_id: int | None
    next_id: int | None


def versions_of(branches: Mapping[int, tuple[int, ...]]) -> dict[int, Versions]:
    """Return the versions of every message that has several, from the ids that stand in its place."""
    found = {}
    for message_id, ids in branches.items():
        at = ids.index(message_id)
        before = ids[at - 1] if at else None
        after = ids[at + 1] if at + 1 < len(ids) else None
        found[message_id] = Versions(f"{at + 1} of {len(ids)}", before, after)
    return found
