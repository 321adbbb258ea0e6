"""How an engine process is started: from source, and from inside the frozen app. Standard library only."""

import sys
from typing import Literal

EngineKind = Literal["child", "fake"]


def engine_command(kind: EngineKind = "child") -> list[str]:
    """Return the program and arguments of an engine process: the real one, or `fake`, which needs no model.

    In the frozen app `sys.executable` is the app itself, which takes the same arguments as `python -m app`.
    """
    arguments = ["--engine", kind]
    if getattr(sys, "frozen", False):
        return [sys.executable, *arguments]
    return [sys.executable, "-m", "app", *arguments]
