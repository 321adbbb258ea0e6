"""What the window's child processes share: how they are started, and a stdout kept for what they have to say."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO


def child_command(*arguments: str) -> list[str]:
    """Return the program and arguments of a child: in the frozen app that is the app itself, else `python -m app`."""
    start = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "app"]
    return [*start, *arguments]


@contextmanager
def claimed_stdout() -> Iterator[BinaryIO]:
    """Give the real stdout to the caller alone; prints and native output go to stderr from here on."""
    sys.stdout.flush()
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield stdout
    finally:
        with suppress(BrokenPipeError):
            stdout.close()
