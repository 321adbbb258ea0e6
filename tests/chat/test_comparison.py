import pytest

from app.chat.comparison import Comparison, compare_replies


def test_equal_replies_never_part() -> None:
    assert compare_replies([1, 2], [1, 2], "ab", "ab") == Comparison(None, None, 1.0)


def test_two_empty_replies_agree() -> None:
    assert compare_replies([], [], "", "") == Comparison(None, None, 1.0)


def test_parting_is_told_in_tokens_and_in_characters() -> None:
    compared = compare_replies([1, 2, 3, 4], [1, 9, 3, 4], "one two", "one too")
    assert compared.first_different_token == 1
    assert compared.first_different_char == 5
    assert compared.agreement == pytest.approx(3 / 4)


def test_a_reply_that_ends_early_parts_where_it_ends() -> None:
    compared = compare_replies([1, 2, 3, 4], [1], "abcd", "a")
    assert (compared.first_different_token, compared.first_different_char) == (1, 1)
    assert compared.agreement == pytest.approx(1 / 4)


def test_nothing_agrees_with_an_empty_reply() -> None:
    assert compare_replies([], [1], "", "a") == Comparison(0, 0, 0.0)


def test_the_order_of_the_replies_does_not_matter() -> None:
    first, second = ([1, 2, 3], "abc"), ([1, 5], "ax")
    assert compare_replies(first[0], second[0], first[1], second[1]) == compare_replies(
        second[0], first[0], second[1], first[1]
    )


def test_same_text_by_other_tokens_parts_in_tokens_only() -> None:
    compared = compare_replies([1, 2], [3], "ab", "ab")
    assert compared.first_different_token == 0
    assert compared.first_different_char is None
