"""Replies of models that think aloud first: `<think>…</think>`, then the answer."""

import re
from dataclasses import dataclass

OPENING, CLOSING = "<think>", "</think>"
_CLOSING_LINE = re.compile(r"^[ \t]*</think>[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parts:
    """A reply taken apart; `reasoning` is None where the model did not think aloud."""

    reasoning: str | None
    answer: str
    is_thinking: bool = False
    """The reasoning has not ended."""


def parts_of(text: str, *, is_growing: bool = False) -> Parts:
    """Take a reply apart; `is_growing` where more may follow, so that half a tag is not shown as text.

    Some chat templates open the reasoning in the prompt: then only the closing tag is here, on a line of its own.
    """
    head = text.lstrip()
    if head.startswith(OPENING):
        reasoning, closed, answer = head[len(OPENING) :].partition(CLOSING)
        return Parts(reasoning.strip(), answer.lstrip(), is_thinking=not closed)
    if is_growing and head and OPENING.startswith(head):
        return Parts("", "", is_thinking=True)
    if CLOSING in text and OPENING not in head and (found := _CLOSING_LINE.search(text)) is not None:
        return Parts(text[: found.start()].strip(), text[found.end() :].lstrip())
    return Parts(None, text)
