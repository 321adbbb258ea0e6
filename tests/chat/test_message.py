import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.chat.message import Message, Role, title_from


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Tell me a story", "Tell me a story"),
        ("  Tell me\n\n\ta   story ", "Tell me a story"),
        ("", "New chat"),
        (" \n", "New chat"),
        ("a" * 48, "a" * 48),
        ("a" * 49, "a" * 47 + "…"),
        (
            "Please explain to me, in a few words, what a key-value cache is",
            "Please explain to me, in a few words, what a…",
        ),
    ],
)
def test_title_is_the_first_words(text: str, title: str) -> None:
    assert title_from(text) == title


def test_title_drops_punctuation_before_the_ellipsis() -> None:
    assert title_from("One, two, three", limit=12) == "One, two…"
    assert title_from("One, two, three", limit=8) == "One…"


@given(st.text(), st.integers(min_value=8, max_value=60))
@settings(deadline=None, max_examples=50)
def test_title_is_one_short_line_that_says_something(text: str, limit: int) -> None:
    title = title_from(text, limit)
    assert 0 < len(title) <= limit
    assert len(title.splitlines()) == 1
    assert title == title.strip()


def test_messages_are_values() -> None:
    assert Message(Role.USER, "Hi") == Message(Role.USER, "Hi")
    assert Role("assistant") is Role.ASSISTANT
