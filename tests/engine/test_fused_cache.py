"""The caches decoding through the fused kernels, as on a Mac: whole models, the Metal text run on the host."""

import random
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.chat.options import CacheMode
from app.engine.cache_figures import cache_figures
from app.engine.cache_plan import make_caches, plan_cache
from app.engine.kv_cache import Int4Cache, Int4KVCache, Int4RotatingKVCache
from kernels import dispatch
from tests.engine.cache_walk import Kernels, Pair, Walk
from tests.engine.test_kv_cache import feed, kl, tokens_of
from tests.metal_host.fixtures import require_compiler
from tests.metal_host.stand_in import metal_host
from tests.tiny_model import build_model
from tests.trials import forget_trials

require_compiler()


@pytest.fixture(params=["fast", "checked"])
def fused_dispatch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let dispatch believe in a Metal GPU; the emulator answers."""
    forget_trials()
    with metal_host(request.param, 0):
        yield lambda: monkeypatch.setattr(dispatch, "backend", lambda: "metal")
    forget_trials()


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("llama", {"head_dim": 64}),
        ("gemma3_text", {"head_dim": 64, "sliding_window": 32, "query_pre_attn_scalar": 512}),
    ],
)
def test_decoding_through_the_kernels_equals_the_plain_operations(
    fused_dispatch: Any, model_type: str, config: dict[str, Any]
) -> None:
    model = build_model(model_type, num_hidden_layers=2, **config)
    model.set_dtype(mx.float16)
    tokens, chunks = tokens_of(84, seed=11), [40, *[1] * 20, 4, *[1] * 20]
    plan = plan_cache(model)
    plain = make_caches(model, plan, CacheMode.INT4, 32)
    expected = feed(model, plain, tokens, chunks)
    assert cache_figures(plain, plan, CacheMode.INT4, 32, 84).path == "cpu, plain MLX operations"
    fused_dispatch()
    before = dispatch.engagements["append_and_attend/fused"]
    fused = make_caches(model, plan, CacheMode.INT4, 32)
    got = feed(model, fused, tokens, chunks)
    growing = sum(isinstance(c, Int4KVCache) for c in fused)  # a ring takes four tokens as a chunk
    assert dispatch.engagements["append_and_attend/fused"] - before == 40 * len(fused) + growing
    assert cache_figures(fused, plan, CacheMode.INT4, 32, 84).path == "metal, fused kernels"
    # Of float16, in which the last bit may fall to either side of a code's edge; a wrong row costs 0.1 and more.
    difference = np.abs(kl(expected, got))
    assert np.quantile(difference, 0.9) < 5e-3
    assert difference.max() < 3e-2
    for ours, theirs in zip(fused, plain, strict=True):
        assert (ours.offset, ours.capacity, ours.nbytes) == (theirs.offset, theirs.capacity, theirs.nbytes)


def test_a_model_that_reads_its_state_between_steps_finds_every_token(fused_dispatch: Any) -> None:
    """A token waits for its attention to be coded; saving or trimming in between must not lose it."""
    fused_dispatch()
    model = build_model("llama", num_hidden_layers=1, head_dim=64)
    (cache,) = make_caches(model, plan_cache(model), CacheMode.INT4, 32)
    rows = mx.random.normal((1, 2, 1, 64), key=mx.random.key(0))
    for _ in range(3):
        cache.update_and_fetch(rows, rows)
    codes, scales, offset, *_ = cache.state
    assert offset == 3
    assert mx.array_equal(codes[..., 0, :], codes[..., 2, :])
    assert mx.all(mx.abs(scales[..., :3, :]) > 0)
    cache.update_and_fetch(rows, rows)
    assert cache.trim(2) == 2
    assert cache.rows == 2


@pytest.mark.parametrize("make", [lambda: Int4KVCache(0), lambda: Int4RotatingKVCache(0, 64)], ids=["growing", "ring"])
def test_any_history_gives_the_same_bits(fused_dispatch: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `test_in_place_cache`, with the kernels themselves."""
    fused_dispatch()
    monkeypatch.setattr(Int4Cache, "step", 32)
    kernels = Kernels(monkeypatch)
    again = dispatch.engagements["attend_again/fused"]
    Walk(kernels, random.Random(1), [Pair(make(), make())], lengths=[3]).go(60)
    assert kernels.steps > 100
    assert dispatch.engagements["attend_again/fused"] > again + 20
