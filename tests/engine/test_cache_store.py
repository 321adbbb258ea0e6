"""Caches on disk: what was saved comes back bit for bit, nothing foreign is used, the folder keeps its bound."""

import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache

from app.chat.options import CacheMode
from app.engine import cache_store
from app.engine.cache_file import Content
from app.engine.cache_plan import CachePlan, make_caches
from app.engine.cache_store import CacheStore, identity_of
from app.engine.calibration import Calibration, LayerConstants
from app.engine.kv_cache import Int4KVCache
from app.engine.model_folder import open_model
from tests.engine.kept_cache import IDENTITY, Kept, never, read, states, tokens_of, useful
from tests.tiny_model import write_tiny_model

MODELS = ("qwen2", "gemma3_text")
SLACK = 2000
"""Bytes by which a file's size may be overestimated before it is written."""


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


# What comes back


@pytest.mark.parametrize("tokens", [1, 20, 150, 300])
@pytest.mark.parametrize("model_type", MODELS)
def test_what_was_saved_comes_back_bit_for_bit_and_goes_on_the_same(
    tmp_path: Path, model_type: str, tokens: int
) -> None:
    """Codes, scales, positions; rings that are not full, full and turned over, of a window of 32."""
    kept = Kept(tmp_path, model_type, tokens)
    caches = kept.fresh()
    assert kept.load(caches) == kept.tokens
    assert states(caches) == states(kept.caches)
    assert [c.is_trimmable() for c in caches] == [c.is_trimmable() for c in kept.caches]
    for n in (1, 12, 1):
        assert np.array_equal(read(kept.model, caches, tokens_of(n)), read(kept.model, kept.caches, tokens_of(n)))
    assert states(caches) == states(kept.caches)


def test_layers_that_are_fp16_come_back_with_the_others(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "gemma3_text")
    kept.plan = CachePlan(("so", "so", "", ""))
    kept.caches = kept.fresh()
    assert {type(c) for c in kept.caches[:2]} == {KVCache, RotatingKVCache}
    read(kept.model, kept.caches, kept.tokens)
    assert kept.save()
    caches = kept.fresh()
    assert kept.load(caches) == kept.tokens
    assert states(caches) == states(kept.caches)
    assert np.array_equal(read(kept.model, caches, [1, 2]), read(kept.model, kept.caches, [1, 2]))


def test_caches_of_other_kinds_come_back(tmp_path: Path) -> None:
    """What a model with state spaces or several caches a layer has."""
    store = CacheStore(tmp_path, 10**9)
    growing, arrays = KVCache(), ArraysCache(2)
    rows = mx.random.normal((1, 2, 5, 8), key=mx.random.key(1)).astype(mx.bfloat16)
    growing.update_and_fetch(rows, rows + 1)
    arrays[0] = rows[:, 0]
    caches = [CacheList(growing, ArraysCache(1)), arrays]
    assert store.save("c", IDENTITY, [1, 2, 3, 4, 5], caches, never)
    loaded = [CacheList(KVCache(), ArraysCache(1)), ArraysCache(2)]
    assert store.load("c", IDENTITY, useful, loaded) == [1, 2, 3, 4, 5]
    assert states(loaded) == states(caches)


def test_an_int4_cache_beside_a_recurrent_state_comes_back_with_the_models_own_constants(tmp_path: Path) -> None:
    mu = mx.random.normal((2, 2, 32), key=mx.random.key(3))

    def fresh() -> list[CacheList]:
        return [CacheList(ArraysCache(1), Int4KVCache(0, 32, mu=mu))]

    store, caches = CacheStore(tmp_path, 10**9), fresh()
    rows = mx.random.normal((1, 2, 5, 32), key=mx.random.key(1)).astype(mx.bfloat16)
    caches[0][0][0] = rows[:, 0]
    caches[0][1].update_and_fetch(rows, rows + 1)
    assert store.save("c", IDENTITY, [1, 2, 3, 4, 5], caches, never)
    loaded = fresh()
    assert store.load("c", IDENTITY, useful, loaded) == [1, 2, 3, 4, 5]
    assert states(loaded) == states(caches)
    assert loaded[0][1].mu is mu


def test_a_cache_that_holds_what_no_file_can_is_not_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = ArraysCache(1)
    odd[0] = object()
    assert not CacheStore(tmp_path, 10**9).save("c", IDENTITY, [1], [odd], never)
    assert "a cache holds a object" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_the_constants_are_the_models_own_and_not_copies(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    mu = mx.random.normal((2, 2, 32), key=mx.random.key(3))
    calibration = Calibration((LayerConstants(mu),) * 3, "test")
    caches = make_caches(kept.model, kept.plan, CacheMode.INT4, 32, calibration)
    assert kept.load(caches) == kept.tokens
    assert all(cache.mu is mu for cache in caches)


def test_only_the_owner_may_read(kept: Kept) -> None:
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700
    assert [p.name for p in kept.path.parent.iterdir()] == [kept.path.name]
    assert "chat" not in kept.path.name


# What is never used


@pytest.mark.parametrize("name", [*IDENTITY, "another"])
def test_another_identity_is_not_used_and_the_file_stays(kept: Kept, name: str) -> None:
    assert kept.load(identity={**IDENTITY, name: "other"}) is None
    assert kept.load() == kept.tokens


def test_a_file_of_another_conversation_is_not_used(kept: Kept) -> None:
    kept.path.replace(kept.store.path("chat-2"))
    assert kept.store.load("chat-2", IDENTITY, useful, kept.fresh()) is None


def test_the_identity_follows_model_calibration_and_layers(tmp_path: Path) -> None:
    first, second = (
        open_model(write_tiny_model(tmp_path / name, rope_theta=theta), lambda _: None)
        for name, theta in (("first", 1e4), ("second", 500.0))
    )
    assert identity_of(first)["model"] != identity_of(second)["model"]
    assert first.calibration is not None
    changed = LayerConstants(mx.ones((2, 2, 32)), reason=first.calibration.layers[0].reason)
    layers = (changed, *first.calibration.layers[1:])
    other = replace(first, calibration=replace(first.calibration, layers=layers))
    assert identity_of(other)["calibration"] != identity_of(first)["calibration"]
    fewer = replace(first, plan=CachePlan(("", "too sensitive", "")))
    assert (identity_of(first)["int4_layers"], identity_of(fewer)["int4_layers"]) == ("111", "101")


def test_what_is_of_no_use_is_not_loaded(kept: Kept) -> None:
    caches = kept.fresh()
    assert kept.store.load("chat-1", IDENTITY, lambda tokens: tokens != kept.tokens, caches) is None
    assert all(cache.empty() for cache in caches)
    assert kept.path.exists()


def test_caches_of_another_shape_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The identity says the same, yet the caches are others: a defect of ours, which must not end in nonsense."""
    for wrong, message in (
        (lambda kept: kept.fresh(group_size=64), "was held in another way"),
        (lambda kept: kept.fresh()[:2], "it has 3 caches, the model 2"),
        (lambda kept: kept.fresh()[::-1], "was held in another way"),
        (lambda kept: [KVCache(), *kept.fresh()[1:]], "it holds another cache than KVCache"),
    ):
        caplog.clear()
        kept = Kept(tmp_path)
        assert kept.load(wrong(kept)) is None
        assert message in caplog.text
        assert not kept.path.exists()


# Room


def test_the_oldest_goes_first_and_what_is_used_is_not_old(kept: Kept) -> None:
    size = kept.path.stat().st_size
    kept.store = CacheStore(kept.path.parent, 3 * size + SLACK)
    for number in (2, 3):
        assert kept.save(f"chat-{number}")
    for age, number in enumerate((3, 2, 1)):
        os.utime(kept.store.path(f"chat-{number}"), (time.time() - 100 * age - 100,) * 2)
    assert kept.load() == kept.tokens  # chat-1 was the oldest
    assert kept.save("chat-4")
    there = [number for number in (1, 2, 3, 4) if kept.store.path(f"chat-{number}").exists()]
    assert there == [1, 3, 4]
    assert sum(path.stat().st_size for path in kept.path.parent.iterdir()) <= 3 * size + SLACK


def test_a_conversation_that_is_saved_again_pushes_nobody_out(kept: Kept) -> None:
    size = kept.path.stat().st_size
    kept.store = CacheStore(kept.path.parent, 2 * size + SLACK)
    assert kept.save("chat-2")
    for _ in range(3):
        assert kept.save("chat-1")
    assert kept.store.path("chat-2").exists()


@pytest.mark.parametrize("model_type", MODELS)
def test_sizes_are_never_underestimated(tmp_path: Path, model_type: str) -> None:
    kept = Kept(tmp_path, model_type)
    content = Content({**IDENTITY, "chat": "chat-1"}, kept.tokens, kept.caches)
    assert 0 <= content.nbytes - kept.path.stat().st_size <= SLACK


def test_what_is_larger_than_the_bound_is_not_saved_and_pushes_nobody_out(kept: Kept) -> None:
    kept.store = CacheStore(kept.path.parent, kept.path.stat().st_size // 2)
    assert not kept.save("chat-2")
    assert kept.path.exists()


def test_a_disk_that_is_nearly_full_is_left_alone(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache_store, "SPARE_BYTES", 2**62)
    assert not kept.save("chat-2")
    assert "nearly full" in caplog.text
    assert [p.name for p in kept.path.parent.iterdir()] == [kept.path.name]


def test_tidying_keeps_to_conversations_bound_and_its_own_files(kept: Kept) -> None:
    folder = kept.path.parent
    for number in (2, 3):
        assert kept.save(f"chat-{number}")
    foreign = [folder / "model.safetensors", folder / "notes.txt", folder / ".something.part"]
    part, recent = (folder / f".{digit * 32}.7.part" for digit in "ab")
    for path in (*foreign, part, recent):
        path.write_text("x")
    for path in (foreign[2], part):
        os.utime(path, (time.time() - 7200,) * 2)
    os.utime(kept.path, (1, 1))
    kept.store.tidy(["chat-1", "chat-2"])
    assert {*folder.iterdir()} == {kept.path, kept.store.path("chat-2"), recent, *foreign}
    CacheStore(folder, kept.path.stat().st_size).tidy(["chat-1", "chat-2"])
    assert not kept.path.exists()
    CacheStore(folder, 0).tidy(["chat-1", "chat-2"])
    assert {*folder.iterdir()} == {recent, *foreign}
    CacheStore(folder / "nowhere", 10).tidy([])


def test_a_deleted_conversation_leaves_nothing(kept: Kept) -> None:
    kept.store.forget("chat-2")
    assert kept.path.exists()
    kept.store.forget("chat-1")
    assert list(kept.path.parent.iterdir()) == []
