"""How an engine process is started."""

from typing import Literal

from app.children import child_command

EngineKind = Literal["child", "fake"]


def engine_command(kind: EngineKind = "child") -> list[str]:
    """Return the program and arguments of an engine process: the real one, or `fake`, which needs no model."""
    return child_command("--engine", kind)
