import pytest

from app.chat.reasoning import Parts, parts_of


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hello", Parts(None, "Hello")),
        ("", Parts(None, "")),
        ("<think>\nHm.\n</think>\n\nHello", Parts("Hm.", "Hello")),
        ("\n<think>Hm</think>Hello </think>", Parts("Hm", "Hello </think>")),
        ("<think></think>Hello", Parts("", "Hello")),
        ("<think>Hm, so", Parts("Hm, so", "", is_thinking=True)),
        ("Hm, so\n</think>\n\nHello", Parts("Hm, so", "Hello")),
        ("The tag `</think>` ends it", Parts(None, "The tag `</think>` ends it")),
        ("A tag: <think>\n</think>\n", Parts(None, "A tag: <think>\n</think>\n")),
        ("<thi", Parts(None, "<thi")),
    ],
)
def test_a_reply_is_taken_apart(text, parts):
    assert parts_of(text) == parts


@pytest.mark.parametrize("text", ["<", "<thi", " \n<think"])
def test_half_a_tag_is_not_shown_while_more_may_follow(text):
    assert parts_of(text, is_growing=True) == Parts("", "", is_thinking=True)


def test_no_text_is_no_half_tag():
    assert parts_of("", is_growing=True) == Parts(None, "")
    assert parts_of("<b>", is_growing=True) == Parts(None, "<b>")
