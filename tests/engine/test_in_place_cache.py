"""Steps that write the int4 caches in place, behind MLX's back: always the same bits as without.

Random histories are told to a cache whose steps run in place, at once or as late as possible, and to its twin, which
uses MLX's updates only. Everything that was ever handed out must be equal in the end.
"""

import copy
import random
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.engine.int4_handle import Int4NotServedError
from app.engine.kv_buffers import KVBuffers
from app.engine.kv_cache import Int4Cache, Int4KVCache, Int4RotatingKVCache
from tests.engine.cache_walk import HK, HQ, D, Pair, Walk
from tests.engine.in_place_device import InPlaceDevice

KINDS: dict[str, Callable[[], Int4Cache]] = {
    "growing": lambda: Int4KVCache(0),
    "ring of 8": lambda: Int4RotatingKVCache(0, 8),
    "ring of 27": lambda: Int4RotatingKVCache(0, 27),
    "ring of 64": lambda: Int4RotatingKVCache(0, 64),
}
LATENESS = {"at once": 0.0, "now and then late": 0.5, "as late as possible": 1.0}


def walk(monkeypatch: pytest.MonkeyPatch, kind: str, lateness: str, seed: int) -> InPlaceDevice:
    """Go 300 operations; capacity grows by 16 rows to have it grow often, and by 256 where the seed is 0."""
    monkeypatch.setattr(Int4Cache, "step", 16 if seed else 256)
    chance, coin = LATENESS[lateness], random.Random(seed)
    device = InPlaceDevice(monkeypatch, lambda: coin.random() < chance)
    make = KINDS[kind]
    Walk(device, random.Random(seed), [Pair(make(), make())]).go(300)
    return device


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("lateness", LATENESS)
@pytest.mark.parametrize("kind", KINDS)
def test_any_history_gives_the_same_bits(kind: str, lateness: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    device = walk(monkeypatch, kind, lateness, seed)
    assert len(device.launches) > 300


def _deepcopy_unnoticed(patch: pytest.MonkeyPatch) -> None:
    def share_arrays(self: KVBuffers, _: Any) -> KVBuffers:
        self.wait()
        fork = KVBuffers(self.codes, self.scales)
        fork._seen = self._seen
        return fork

    patch.setattr(KVBuffers, "__deepcopy__", share_arrays)


def _readers_unnoticed(patch: pytest.MonkeyPatch) -> None:
    def share(self: KVBuffers, _: int) -> Any:
        self.wait()
        return self.codes, self.scales

    patch.setattr(KVBuffers, "share", share)


def _loaded_taken_for_own(patch: pytest.MonkeyPatch) -> None:
    init = KVBuffers.__init__

    def trusting(self: KVBuffers, *arrays: Any) -> None:
        init(self, *arrays)
        self._seen = 0

    patch.setattr(KVBuffers, "__init__", trusting)


def _nobody_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KVBuffers, "wait", lambda _: None)


def _growth_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    move = KVBuffers._move

    def hasty(self: KVBuffers, capacity: int) -> None:
        with pytest.MonkeyPatch.context() as meanwhile:
            _nobody_waits(meanwhile)
            move(self, capacity)

    patch.setattr(KVBuffers, "_move", hasty)


def _steps_not_chained(patch: pytest.MonkeyPatch) -> None:
    step = InPlaceDevice.append_and_attend

    def unchained(self: InPlaceDevice, *arguments: Any) -> Any:
        *before, _, tokens, scale, mask, window = arguments
        position = mx.array([tokens - before[2].shape[2]])
        return step(self, *before, position, tokens, scale, mask, window)

    patch.setattr(InPlaceDevice, "append_and_attend", unchained)


def _trim_breaks_the_chain(patch: pytest.MonkeyPatch) -> None:
    trim = Int4Cache.trim

    def forgetful(self: Int4Cache, n: int) -> int:
        self.buffers._position = None
        return trim(self, n)

    patch.setattr(Int4Cache, "trim", forgetful)


def _update_changes_the_object(patch: pytest.MonkeyPatch) -> None:
    def put(self: KVBuffers, row: int, coded: Any) -> None:
        self.wait()
        for array, new in zip((self.codes, self.scales), coded, strict=True):
            array[..., row : row + new.shape[3], :] = new
        self._seen = 0

    patch.setattr(KVBuffers, "put", put)


@pytest.mark.parametrize(
    ("defect", "lateness"),
    [
        (_deepcopy_unnoticed, "at once"),
        (_readers_unnoticed, "at once"),
        (_loaded_taken_for_own, "at once"),
        (_update_changes_the_object, "at once"),
        (_nobody_waits, "as late as possible"),
        (_growth_does_not_wait, "as late as possible"),
        (_steps_not_chained, "as late as possible"),
        (_trim_breaks_the_chain, "as late as possible"),
    ],
)
def test_a_defect_would_be_found(defect: Callable[[pytest.MonkeyPatch], None], lateness: str) -> None:
    for seed in range(1, 6):
        with pytest.MonkeyPatch.context() as patch:
            defect(patch)
            try:
                walk(patch, "growing", lateness, seed)
            except (AssertionError, ValueError):
                return
    pytest.fail("every walk gave the right bits all the same")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> InPlaceDevice:
    return InPlaceDevice(monkeypatch, lambda: False)


def step(cache: Int4Cache, L: int = 1, mask: mx.array | str | None = None) -> mx.array:
    keys, values, queries = mx.random.normal((3, 1, HK, L, D))
    handle, _ = cache.update_and_fetch(keys, values)
    return handle.attend(queries, 0.2, mask)


def memory(cache: Int4Cache) -> int:
    """Where the codes lie."""
    address: int = np.array(cache.buffers.codes, copy=False).__array_interface__["data"][0]
    return address


def test_growing_moves_nothing_but_to_grow(device: InPlaceDevice) -> None:
    cache = Int4KVCache(0)
    places = []
    for L in (100, 1, 7, 8, 40, *[1] * 100, 1):
        step(cache, L, "causal" if L > 1 else None)
        assert cache.state[2] == cache.offset
        places.append(memory(cache))
    assert cache.buffers.copies == 0
    assert len(set(places[1:4])) == len(set(places[5:-1])) == 1
    assert places[-1] != places[-2]
    assert (cache.rows, cache.capacity) == (257, 512)
    assert cache.plain_reason == ""


def test_a_fork_and_what_it_came_from_move_once_each(device: InPlaceDevice) -> None:
    cache = Int4KVCache(0)
    step(cache)
    fork = copy.deepcopy(cache)
    assert memory(fork) == memory(cache)
    for each in (cache, fork):
        for _ in range(3):
            step(each)
        assert each.buffers.copies == 1
    assert memory(fork) != memory(cache)


def test_a_trim_moves_only_what_others_may_look_at(device: InPlaceDevice) -> None:
    cache = Int4KVCache(0)
    step(cache, 8, "causal")
    cache.trim(3)
    step(cache)
    assert cache.buffers.copies == 0
    kept = cache.state
    cache.trim(1)
    step(cache)
    cache.trim(1)
    step(cache)
    assert cache.buffers.copies == 1
    assert kept[0] is not cache.state[0]


def test_a_ring_is_moved_once_after_it_was_read(device: InPlaceDevice) -> None:
    cache = Int4RotatingKVCache(0, 8)
    for _ in range(20):
        step(cache)
    assert cache.buffers.copies == 0
    kept = cache.state
    before = np.array(kept[0])
    for _ in range(20):
        step(cache)
    assert cache.buffers.copies == 1
    assert np.array_equal(before, np.array(kept[0]))


def test_a_step_is_attended_while_it_is_the_last(device: InPlaceDevice) -> None:
    cache = Int4KVCache(0)
    keys = mx.random.normal((1, HK, 1, D))
    handle, _ = cache.update_and_fetch(keys, keys)
    first, again = (handle.attend(mx.ones((1, HQ, 1, D)), 0.2, None) for _ in range(2))
    assert mx.array_equal(first, again)
    step(cache)
    with pytest.raises(Int4NotServedError, match="held before"):
        handle.attend(mx.ones((1, HQ, 1, D)), 0.2, None)


def test_a_step_that_is_not_fused_says_why(device: InPlaceDevice) -> None:
    cache = Int4KVCache(0)
    step(cache, 20, "causal")
    assert cache.plain_reason is None
    device.fused = False
    step(cache)
    assert cache.plain_reason == "not fused here"
    device.fused = True
    step(cache, 3, "causal")
    assert cache.plain_reason == ""
    assert cache.attended == 3
