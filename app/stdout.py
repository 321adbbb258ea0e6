"""A child's stdout, kept for what it has to say to the window."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO


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
