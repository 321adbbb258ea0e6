"""A conversation as the tokens a model reads."""

from collections.abc import Sequence
from typing import Any

from app.chat.message import Message, Role
from app.engine.template_sandbox import TemplateTimeError, time_limit
from app.errors import NibbleError

MOST_ADDED_CHARACTERS = 1_000_000
"""How much a chat template may write beside the texts of the messages, each of them twice at most."""


class _EndlessTemplateError(NibbleError):
    """A template that writes for ever will do so with other messages too."""


def prompt_tokens(tokenizer: Any, messages: Sequence[Message], system_prompt: str) -> list[int]:
    """Apply the model's chat template and return token ids, ending where the assistant begins to speak.

    A template that refuses a system role gets the system prompt at the head of the first message instead. A model
    without a template reads the plain texts, named by their roles. Raises NibbleError where a template fails, takes
    longer than template_sandbox.TIME_LIMIT_S or writes far more than it was given. For the main thread.
    """
    if not messages or messages[-1].role is not Role.USER:
        raise NibbleError("There is no message to answer.", "Write one first.")
    turns = [{"role": m.role.value, "content": m.text} for m in messages]
    if not tokenizer.has_chat_template:
        lines = [f"{t['role']}: {t['content']}" for t in _merged(turns, system_prompt)]
        return list(tokenizer.encode("\n".join([*lines, "assistant:"])))
    if not system_prompt:
        return _templated(tokenizer, turns)
    try:
        return _templated(tokenizer, [{"role": Role.SYSTEM.value, "content": system_prompt}, *turns])
    except _EndlessTemplateError:
        raise
    except NibbleError:
        return _templated(tokenizer, _merged(turns, system_prompt))


def template_fault(tokenizer: Any) -> str:
    """Return why the model's chat template fails on the shortest conversation; "" where it does not."""
    try:
        _templated(tokenizer, [{"role": Role.USER.value, "content": "Hello"}])
    except NibbleError as error:
        return str(error.__cause__)
    return ""


def _merged(turns: list[dict[str, str]], system_prompt: str) -> list[dict[str, str]]:
    if not system_prompt:
        return turns
    first = {**turns[0], "content": f"{system_prompt}\n\n{turns[0]['content']}"}
    return [first, *turns[1:]]


def _templated(tokenizer: Any, turns: list[dict[str, str]]) -> list[int]:
    try:
        with time_limit():
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        written = len(text) - 2 * sum(len(turn["content"]) for turn in turns)
        if written > MOST_ADDED_CHARACTERS:
            raise TemplateTimeError(f"it wrote {len(text):,} characters")
    except TemplateTimeError as error:
        raise _EndlessTemplateError(
            f"This model's chat template does not come to an end: {error}.", "Choose another model."
        ) from error
    except Exception as error:
        # A template is a program, and not ours.
        raise NibbleError(
            f"This model's chat template refused the conversation: {str(error)[:300] or type(error).__name__}",
            "Start a new chat, or change the last message.",
        ) from error
    return list(tokenizer.encode(text, add_special_tokens=False))
