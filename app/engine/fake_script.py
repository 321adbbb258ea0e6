"""Directives for the fake engine, in square brackets: they make it slow, let it fail, or crash it.

They stand in the last user message, in the model folder's name or in the name of a text that quality is measured on.
STAGE is `load`, `prefill`, `decode` or `measure`:

    [prefill-ms 20]   take 20 ms for every prefill step (8 words)    [tokens 300]     reply with 300 tokens
    [token-ms 20]     take 20 ms for every token                     [markdown]       reply with a list, code, a table
    [load-ms 200]     take 200 ms for every loading step             [part 5]         int4 parts from fp16 at token 5
    [measure-ms 20]   take 20 ms for every step of measuring         [think 20]       reason aloud in 20 words first
    [markdown 900]    the same, some 900 characters long              [context 9000]   in a folder's name: its limit
    [weights 499]     in a folder's name: its weights, in MB
    [fail STAGE]      raise a NibbleError                            [defect STAGE]   raise an unexpected exception
    [abort STAGE]     abort the process (SIGABRT)                    [exit STAGE]     end the process with code 3
    [hang STAGE]      hang, deaf to Cancel and Quit                  [garbage STAGE]  send a line that is no event
    [print STAGE]     print to stdout, from Python and natively      [big]            in a folder's name: does not fit
"""

import os
import re
import time
from dataclasses import dataclass, field
from typing import cast

from app.engine.protocol import Emit, Event
from app.errors import NibbleError


@dataclass(slots=True)
class Script:
    """The directives found in a text."""

    found: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> "Script":
        """Find the directives in `text`."""
        return cls(dict(re.findall(r"\[([a-z-]+)(?: (\w+))?\]", text)))

    def number(self, name: str, default: int) -> int:
        """Return the number of a directive."""
        return int(self.found.get(name, default))

    def pause(self, name: str, default_ms: int) -> None:
        """Sleep for as many milliseconds as a directive says."""
        time.sleep(self.number(name, default_ms) / 1000)

    def reach(self, stage: str, emit: Emit) -> None:
        """Do what the directives ask for at `stage`."""
        for action, asked in self.found.items():
            if asked == stage:
                self._do(action, stage, emit)

    def _do(self, action: str, stage: str, emit: Emit) -> None:
        match action:
            case "fail":
                raise NibbleError(f"The script asks for a failure in {stage}.", "Ask for something else.")
            case "defect":
                raise ZeroDivisionError(f"the script asks for a defect in {stage}")
            case "abort":
                os.abort()
            case "exit":
                os._exit(3)
            case "hang":
                while True:
                    time.sleep(0.1)
            case "garbage":
                emit(cast(Event, _Garbage()))
            case "print":
                print(f"printed in {stage}")
                os.write(1, f"written in {stage}\n".encode())


@dataclass(frozen=True, slots=True)
class _Garbage:
    """Encodes to a line that no reader knows."""

    noise: str = "!"
