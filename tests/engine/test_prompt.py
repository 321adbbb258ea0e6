"""Conversations as tokens: templates with and without a system role, and none at all."""

import pytest
from jinja2 import TemplateError

from app.chat.message import Message, Role
from app.engine.prompt import prompt_tokens
from app.errors import NibbleError

TURNS = (Message(Role.USER, "Hi"), Message(Role.ASSISTANT, "Hello"), Message(Role.USER, "More"))


class FakeTokenizer:
    """Tokens are words; the template writes role:text for each turn."""

    def __init__(self, has_chat_template: bool = True, refuses: str = "") -> None:
        self.has_chat_template = has_chat_template
        self.refuses = refuses

    def apply_chat_template(self, turns: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool) -> str:
        assert add_generation_prompt
        assert not tokenize
        if any(t["role"] == self.refuses for t in turns):
            raise TemplateError(f"{self.refuses} role not supported")
        return "|".join(f"{t['role']}:{t['content']}" for t in turns)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[str]:
        return text.split("\n") if add_special_tokens else text.split("|")


def test_the_system_prompt_comes_first() -> None:
    assert prompt_tokens(FakeTokenizer(), TURNS, "Be brief") == [
        "system:Be brief",
        "user:Hi",
        "assistant:Hello",
        "user:More",
    ]
    assert prompt_tokens(FakeTokenizer(), TURNS, "")[0] == "user:Hi"


def test_a_template_without_a_system_role_gets_it_in_the_first_message() -> None:
    tokens = prompt_tokens(FakeTokenizer(refuses="system"), TURNS, "Be brief")
    assert tokens[0] == "user:Be brief\n\nHi"
    assert len(tokens) == 3


def test_without_a_template_roles_are_written_out() -> None:
    assert prompt_tokens(FakeTokenizer(has_chat_template=False), TURNS, "") == [
        "user: Hi",
        "assistant: Hello",
        "user: More",
        "assistant:",
    ]


def test_a_failing_template_is_an_error_for_people() -> None:
    with pytest.raises(NibbleError, match="chat template refused the conversation: user role"):
        prompt_tokens(FakeTokenizer(refuses="user"), TURNS, "Be brief")


@pytest.mark.parametrize("messages", [(), TURNS[:2]])
def test_there_must_be_something_to_answer(messages: tuple[Message, ...]) -> None:
    with pytest.raises(NibbleError, match="no message to answer"):
        prompt_tokens(FakeTokenizer(), messages, "")
