from datetime import UTC, datetime, timedelta

import pytest

from app.store.store import ListedConversation
from app.viewmodels.date_groups import grouped, when

NOW = datetime(2026, 11, 27, 15, 0).astimezone()


def conversation(number: int, written: datetime, *, is_pinned: bool = False) -> ListedConversation:
    at = written.astimezone(UTC).isoformat(timespec="microseconds")
    return ListedConversation(number, f"c{number}", at, is_pinned)


def test_groups_are_today_yesterday_7_and_30_days_then_months():
    ages = (0, 1, 2, 7, 8, 30, 31, 60, 400)
    made = [conversation(age, NOW - timedelta(days=age)) for age in ages]
    rows = [row if isinstance(row, str) else row.id for row in grouped(made, NOW)]
    assert rows == [
        *("Today", 0, "Yesterday", 1, "Previous 7 Days", 2, 7, "Previous 30 Days", 8, 30),
        *("October", 31, "September", 60, "October 2025", 400),
    ]


def test_pinned_ones_stand_in_a_group_of_their_own_whatever_their_date():
    old, new = NOW - timedelta(days=90), NOW
    made = [conversation(1, new, is_pinned=True), conversation(2, old, is_pinned=True), conversation(3, new)]
    assert [row if isinstance(row, str) else row.id for row in grouped(made, NOW)] == ["Pinned", 1, 2, "Today", 3]


def test_what_a_wrong_clock_dated_ahead_counts_as_today():
    assert grouped([conversation(1, NOW + timedelta(days=3))], NOW)[0] == "Today"
    assert grouped([], NOW) == []


def test_midnight_is_the_local_one():
    midnight = NOW.replace(hour=0, minute=0)
    made = [conversation(1, midnight), conversation(2, midnight - timedelta(seconds=1))]
    assert [row for row in grouped(made, NOW) if isinstance(row, str)] == ["Today", "Yesterday"]


@pytest.mark.parametrize(
    ("days", "says"), [(0, "Today, 15:00"), (1, "Yesterday, 15:00"), (20, "7 November"), (400, "23 October 2025")]
)
def test_when_something_was_written(days, says):
    assert when((NOW - timedelta(days=days)).astimezone(UTC).isoformat(), NOW) == says
