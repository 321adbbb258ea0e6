"""A random history, told to an int4 cache and to its twin, and to whatever is made of them on the way."""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
import pytest

from app.engine.kv_buffers import KVBuffers
from app.engine.kv_cache import Int4Cache
from kernels import dispatch

D, HK, HQ = 64, 1, 2


class Device(Protocol):
    """Who carries out steps."""

    def turn_to(self, ours: bool, fused: bool) -> None:
        """Say whose steps are built next, and whether the plain operations are to do them."""

    def look(self, rng: random.Random) -> None:
        """Run something that was not run yet, or nothing."""

    def finish(self) -> None:
        """Run all that was not run yet."""


class Kernels:
    """The real kernels for both caches; the twin moves its buffers before each step, so that nothing else sees them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ours = self.fused = True
        self.steps = 0
        reason_against, step = dispatch.reason_against, KVBuffers.append_and_attend

        def careful(buffers: KVBuffers, *arguments: Any) -> mx.array:
            self.steps += 1
            if not self.ours:
                buffers.share(buffers.capacity)
            return step(buffers, *arguments)

        monkeypatch.setattr(KVBuffers, "append_and_attend", careful)
        monkeypatch.setattr(
            dispatch, "reason_against", lambda *a: reason_against(*a) if self.fused else "not fused here"
        )

    def turn_to(self, ours: bool, fused: bool) -> None:
        """Have the twin be careful."""
        self.ours, self.fused = ours, fused

    def look(self, rng: random.Random) -> None:
        """Leave it to MLX: a GPU runs what is evaluated, the emulator every step at once."""

    def finish(self) -> None:
        """Leave it to MLX."""


@dataclass
class Pair:
    """One conversation: the cache that is tried, and one that is known to be right."""

    ours: Int4Cache
    twin: Int4Cache


@dataclass
class Walk:
    """A random history of one cache and of all its copies."""

    device: Device
    random: random.Random
    pairs: list[Pair]
    lengths: Sequence[int] = range(2, 9)
    """How many tokens a step may have, apart from one."""
    results: list[tuple[mx.array, mx.array]] = field(default_factory=list)
    states: list[tuple[tuple[Any, ...], int, list[np.ndarray]]] = field(default_factory=list)

    def go(self, operations: int) -> None:
        """Do so many things at random, then compare all that was handed out."""
        doings = {
            self.steps: 8,
            self.chunk: 2,
            self.trim: 4,
            self.read: 2,
            self.look: 2,
            self.fork: 1,
            self.load: 1,
        }
        for doing in self.random.choices(list(doings), list(doings.values()), k=operations):
            doing(self.random.choice(self.pairs))
            while len(self.pairs) > 3:
                self.pairs.pop(self.random.randrange(len(self.pairs)))
        self.device.finish()
        for ours, twin in self.results:
            assert np.array_equal(np.array(ours), np.array(twin))
        for pair in self.pairs:
            self.read(pair)
        for (codes, scales, *_), rows, expected in self.states:
            for array, bits in zip((codes, scales), expected, strict=True):
                assert np.array_equal(np.array(array[..., :rows, :]), bits)

    def tell(self, pair: Pair, L: int, attentions: int = 1) -> None:
        """Feed `L` tokens, attended by so many layers."""
        # An array of numpy's and not a lazy one, which would be evaluated twice.
        seed = self.random.randrange(2**32)
        rows = np.random.default_rng(seed).standard_normal((2, 1, HK, L, D)).astype(np.float16)
        queries = np.random.default_rng(seed + 1).standard_normal((attentions, 1, HQ, L, D)).astype(np.float16)
        window = self.random.choice([None, 5]) if pair.ours.window and L == 1 else None
        fused = self.random.random() < 0.9
        results = []
        for cache in (pair.ours, pair.twin):
            self.device.turn_to(cache is pair.ours, fused)
            mask = cache.make_mask(L, window_size=window)
            handle, _ = cache.update_and_fetch(mx.array(rows[0]), mx.array(rows[1]))
            results.append([handle.attend(mx.array(q), D**-0.5, mask) for q in queries])
        self.results += zip(*results, strict=True)

    def chunk(self, pair: Pair) -> None:
        self.tell(pair, self.random.randint(9, 40))

    def steps(self, pair: Pair) -> None:
        for _ in range(self.random.randint(1, 6)):
            L = 1 if pair.ours.window or self.random.random() < 0.6 else self.random.choice(self.lengths)
            self.tell(pair, L, attentions=self.random.choice([0, 1, 1, 1, 2]))

    def trim(self, pair: Pair) -> None:
        if pair.ours.is_trimmable():
            n = self.random.randint(1, 12)
            assert pair.ours.trim(n) == pair.twin.trim(n)

    def fork(self, pair: Pair) -> None:
        self.pairs.append(Pair(copy.deepcopy(pair.ours), copy.copy(pair.twin)))

    def read(self, pair: Pair) -> None:
        """Hold the state for good, and note what is in it."""
        if not pair.ours.empty():
            rows = pair.ours.rows
            expected = [np.array(array[..., :rows, :]) for array in pair.twin.state[:2]]
            self.states.append((pair.ours.state, rows, expected))

    def load(self, pair: Pair) -> None:
        """Go on from one state in one or two caches more."""
        ours, twin = pair.ours.state, pair.twin.state
        for _ in range(self.random.randint(1, 2)):
            self.pairs.append(Pair(type(pair.ours).from_state(ours), type(pair.twin).from_state(twin)))

    def look(self, pair: Pair) -> None:
        """Evaluate some of the results, and run some of the steps that nobody waits for."""
        for _ in range(3):
            if self.results:
                mx.eval(*self.random.choice(self.results))
            self.device.look(self.random)
