"""What a model's chat template may cost: it is a program that came with the model, and runs in jinja2's sandbox.

The sandbox keeps a template from Python's insides, but not from running for ever. Here a template has a time limit, and
the few operations that are refused are those that no time limit could end, as Python carries them out in one piece. A
template that fills the memory bit by bit ends the engine's process at worst, which the window survives.
"""

import functools
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils import chat_template_utils

TIME_LIMIT_S = 1.5
"""For one conversation; the templates of real models take milliseconds."""
_AGAIN_S, _TRIES = 0.1, 20
LARGEST_COUNT = 100_000
"""Of repetitions, padding and the like; jinja2 has the same limit for `range`."""
LARGEST_EXPONENT = 64
MOST_CHARACTERS = 1_000_000_000
"""That a replacement may come to, if all that it replaces were single characters."""

_WIDE = re.compile(r"[%{][^%{}\s]*\d{6}")


class TemplateTimeError(Exception):
    """The template runs longer, or writes more, than it may."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox without what could keep a single operation busy for ever. Raises SecurityError there."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.filters = {name: _bounded(call) for name, call in self.filters.items()}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply, raise to a power, or fill in a text, within bounds."""
        if operator == "**" and not (_is_small(left) and _is_small(right, LARGEST_EXPONENT)):
            raise SecurityError("a power that is too large")
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int) and len(one) * other > LARGEST_COUNT:
                    raise SecurityError("a repetition that is too long")
        if operator == "%":
            _check_widths(left)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method with arguments within bounds."""
        _check(args, kwargs)
        method = getattr(called, "__wrapped__", called)  # the sandbox has a str.format of its own
        text, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(text, str):
            if name in ("replace", "join", "expandtabs"):
                _check_growth(text, args)
            elif name in ("format", "format_map"):
                _check_widths(text)
        return super().call(context, called, *args, **kwargs)


def install() -> None:
    """Let transformers run chat templates in the bounded sandbox. Raises AttributeError where it has another."""
    assert chat_template_utils.ImmutableSandboxedEnvironment in (ImmutableSandboxedEnvironment, BoundedEnvironment)
    chat_template_utils.ImmutableSandboxedEnvironment = BoundedEnvironment


@contextmanager
def time_limit(limit_s: float = TIME_LIMIT_S) -> Iterator[None]:
    """Raise TemplateTimeError in what runs inside once `limit_s` has passed. For the main thread."""
    tries = 0

    def stop(*_: Any) -> None:
        # More than once: Python drops what is raised in a destructor or a callback of its garbage collection.
        nonlocal tries
        tries += 1
        if tries >= _TRIES:
            signal.setitimer(signal.ITIMER_REAL, 0)
        raise TemplateTimeError(f"it runs longer than {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    waiting_s, interval_s = signal.setitimer(signal.ITIMER_REAL, limit_s, _AGAIN_S)
    begun_s = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if waiting_s:  # somebody else's alarm
            signal.setitimer(signal.ITIMER_REAL, max(0.001, waiting_s - time.monotonic() + begun_s), interval_s)


def _bounded(called: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(called)  # with the marks by which jinja2 knows what a filter is to be handed
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _check(args, kwargs)
        if called.__name__ == "do_replace":
            _check_growth("".join(a for a in args[:2] if isinstance(a, str)), args[2:])
        elif called.__name__ == "do_format":
            _check_widths(args[0])
        return called(*args, **kwargs)

    return bounded


def _check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not all(_is_small(value) for value in (*args, *kwargs.values()) if isinstance(value, int)):
        raise SecurityError("a number that is too large")


def _check_growth(text: str, args: tuple[Any, ...]) -> None:
    sizes = (arg if isinstance(arg, int) else len(arg) for arg in args if isinstance(arg, int | str | list))
    if len(text) * max(sizes, default=0) > MOST_CHARACTERS:
        raise SecurityError("a replacement that is too long")


def _check_widths(text: Any) -> None:
    if isinstance(text, str) and _WIDE.search(text):
        raise SecurityError("a field that is too wide")


def _is_small(value: Any, largest: int = LARGEST_COUNT) -> bool:
    return isinstance(value, int | float) and abs(value) <= largest
