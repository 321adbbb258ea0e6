"""Conversations under headings by the local date on which they were last written in."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from app.store.store import ListedConversation

PINNED = "Pinned"


def grouped(conversations: Sequence[ListedConversation], now: datetime | None = None) -> list[ListedConversation | str]:
    """Return `conversations` with a heading before each group; they come pinned first, then the newest first.

    Few dates are read however many conversations there are: the end of each group is found by bisection.
    """
    today = (now or datetime.now(UTC)).astimezone().date()
    rows: list[ListedConversation | str] = []
    start = bisect_left(conversations, True, key=lambda c: not c.is_pinned)
    if start:
        rows += [PINNED, *conversations[:start]]
    while start < len(conversations):
        heading, first_day = _group(_moment(conversations[start].updated_at).date(), today)
        end = _end(conversations, start, first_day)
        rows += [heading, *conversations[start:end]]
        start = end
    return rows


def _end(conversations: Sequence[ListedConversation], start: int, first_day: date) -> int:
    return bisect_left(conversations, True, lo=start, key=lambda c: _moment(c.updated_at).date() < first_day)


def when(written_at: str, now: datetime | None = None) -> str:
    """Say when something was written (UTC, ISO 8601), as seen from `now`: a time today, a date before."""
    moment = _moment(written_at)
    today = (now or datetime.now(UTC)).astimezone().date()
    days = (today - moment.date()).days
    if days <= 0:
        return f"Today, {moment:%H:%M}"
    if days == 1:
        return f"Yesterday, {moment:%H:%M}"
    return f"{moment.day} {moment:%B}" + ("" if moment.year == today.year else f" {moment.year}")


def _group(day: date, today: date) -> tuple[str, date]:
    """Return the heading for `day` and the first day that falls under it."""
    age = (today - day).days
    if age <= 0:
        return "Today", today
    if age == 1:
        return "Yesterday", day
    for days in (7, 30):
        if age <= days:
            return f"Previous {days} Days", today - timedelta(days=days)
    return (f"{day:%B}" if day.year == today.year else f"{day:%B %Y}"), day.replace(day=1)


def _moment(written_at: str) -> datetime:
    try:
        moment = datetime.fromisoformat(written_at)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone()
    except (ValueError, OverflowError):  # spoiled, or at an end of the calendar, where no zone's time exists
        return datetime(1970, 1, 1, tzinfo=UTC)
