"""A GPU for the fused step that runs on the host, as soon or as late as it likes.

MLX does not know that a step writes into its inputs. On a real GPU a step runs somewhere between the moment it is built
and the moment its result is needed; whatever MLX has not been told to order may come before or after. This one runs
each step at either end of that time, in numpy on the arrays' own memory, with the reference's arithmetic.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels import dispatch, reference
from kernels.codec import Codec

STALE_CODES, STALE_SCALE = 0xF0F0F0F0, 6e4


@dataclass(eq=False)
class Position:
    """Stands for the array that a step returns: knows which step must have run before its value is there."""

    launch: "Launch"
    shift: int = 0

    def __sub__(self, shift: int) -> "Position":
        return Position(self.launch, self.shift + shift)


@dataclass(eq=False)
class Launch:
    """One step that was built. Its result is filled in when it runs."""

    codec: Codec
    queries: mx.array
    rows: mx.array
    codes: mx.array
    scales: mx.array
    position: Any
    scale: float
    mask: mx.array | str | None
    window: int
    result: mx.array
    next_position: int | None = None

    def run(self) -> None:
        """Run it now, if that was not done, and the steps that it waits for before it."""
        if self.next_position is not None:
            return
        mx.eval(self.codes, self.scales)
        if isinstance(self.position, Position):
            self.position.launch.run()
            before = self.position.launch.next_position
            assert before is not None
            start = before - self.position.shift
        else:
            start = int(self.position[0])
        L = self.rows.shape[3]
        end = start + L
        row, held = (start % self.window, min(end, self.window)) if self.window else (start, end)
        assert row + L <= held <= self.codes.shape[3]
        new_codes, new_scales = reference.quantize(self.codec, self.rows) if L else (None, None)
        for array, new, stale in (self.codes, new_codes, STALE_CODES), (self.scales, new_scales, STALE_SCALE):
            memory = np.array(array, copy=False)
            assert memory.flags.c_contiguous
            if new is not None:
                memory[..., row : row + L, :] = np.array(new)
            memory[..., held:, :] = stale  # whatever later steps will write
            del memory
        codes, scales = (mx.array(np.array(array[..., :held, :])) for array in (self.codes, self.scales))
        self.result[...] = reference.attend(self.codec, self.queries, codes, scales, self.scale, self.mask)
        mx.eval(self.result)
        self.next_position = end
        del self.codes, self.scales  # MLX lets go of a step's inputs too


class InPlaceDevice:
    """Stands in for `dispatch`'s fused step while `fused` is true; `late` says of each step whether it runs late."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, late: Callable[[], bool]) -> None:
        self.fused = True
        self.late = late
        self.launches: list[Launch] = []
        self._eval = mx.eval
        monkeypatch.setattr(dispatch, "reason_against", lambda *_: "" if self.fused else "not fused here")
        monkeypatch.setattr(dispatch, "append_and_attend", self.append_and_attend)
        monkeypatch.setattr(dispatch, "attend_again", self.attend_again)
        monkeypatch.setattr(mx, "eval", self.eval)

    def append_and_attend(
        self,
        codec: Codec,
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        codes: mx.array,
        scales: mx.array,
        position: Any,
        tokens: int,
        scale: float,
        mask: mx.array | str | None,
        window: int,
    ) -> tuple[mx.array, Any]:
        """As `dispatch.append_and_attend`."""
        rows, result = mx.stack([keys, values]), _not_there(queries)
        launch = Launch(codec, queries, rows, codes, scales, position, scale, mask, window, result)
        return self._begun(launch, tokens)

    def attend_again(
        self,
        codec: Codec,
        queries: mx.array,
        codes: mx.array,
        scales: mx.array,
        position: Any,
        tokens: int,
        scale: float,
        mask: mx.array | str | None,
        window: int,
    ) -> tuple[mx.array, Any]:
        """As `dispatch.attend_again`: a step of no rows."""
        rows, result = mx.zeros((2, *codes.shape[1:3], 0, queries.shape[3]), queries.dtype), _not_there(queries)
        launch = Launch(codec, queries, rows, codes, scales, position, scale, mask, window, result)
        return self._begun(launch, tokens)

    def _begun(self, launch: Launch, tokens: int) -> tuple[mx.array, Any]:
        self.launches.append(launch)
        if not self.late():
            launch.run()
            assert launch.next_position == tokens
        return launch.result, Position(launch)

    def turn_to(self, ours: bool, fused: bool) -> None:
        """Let our steps alone be fused, and only if `fused`."""
        self.fused = ours and fused

    def look(self, rng: random.Random) -> None:
        """Run a step that nobody waits for."""
        if self.launches:
            rng.choice(self.launches).run()

    def eval(self, *wanted: Any) -> None:
        """As `mx.eval`, for positions as well."""
        for item in wanted:
            if isinstance(item, Position):
                item.launch.run()
            else:
                self._eval(item)

    def finish(self) -> None:
        """Run what nothing has asked for: the latest first, unless it waits for others."""
        for launch in reversed(self.launches):
            launch.run()


def _not_there(queries: mx.array) -> mx.array:
    return mx.full(queries.shape, float("nan"), queries.dtype)
