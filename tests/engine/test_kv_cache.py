"""The int4 caches under mlx-lm's own generation, against its float caches and a float oracle on the same codes."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import (
    load_prompt_cache,
    make_prompt_cache,
    save_prompt_cache,
    trim_prompt_cache,
)

from app.chat.options import CacheMode
from app.engine.cache_plan import make_caches, plan_cache
from app.engine.kv_cache import Int4Cache, Int4KVCache, Int4RotatingKVCache
from tests.engine.coded_cache import coded_caches
from tests.tiny_model import CONFIGS, build_model

MODELS = sorted(CONFIGS)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return build_model(request.param)


def int4_caches(model: Any, group_size: int = 32) -> list[Any]:
    plan = plan_cache(model)
    assert plan.int4_layers == len(plan.reasons)
    return make_caches(model, plan, CacheMode.INT4, group_size)


def tokens_of(n: int, seed: int = 0) -> mx.array:
    return mx.random.randint(0, 256, (n,), key=mx.random.key(seed))


def feed(model: Any, caches: Sequence[Any], tokens: mx.array, chunks: Sequence[int]) -> np.ndarray:
    """Run `tokens` through in `chunks`; returns the log-probabilities after every token. Shapes: `[n, vocabulary]`."""
    assert sum(chunks) == len(tokens)
    rows, at = [], 0
    for n in chunks:
        logits = model(tokens[None, at : at + n], cache=caches)
        rows.append(logits[0] - mx.logsumexp(logits[0], axis=-1, keepdims=True))
        mx.eval(rows[-1], [c.state for c in caches])
        at += n
    return np.array(mx.concatenate(rows).astype(mx.float32), np.float64)


def generated(model: Any, caches: Sequence[Any], tokens: mx.array, prompt: int) -> np.ndarray:
    """Let `generate_step` read the first `prompt` tokens and write the others; returns what it thought of each.

    Shapes: log-probabilities `[n - prompt, vocabulary]`.
    """
    left = iter(tokens[prompt:].tolist())
    steps = generate_step(
        tokens[:prompt],
        model,
        max_tokens=len(tokens) - prompt,
        prompt_cache=caches,
        sampler=lambda _: mx.array([next(left, 0)]),  # it asks for one token more than it yields
    )
    return np.array(mx.stack([logprobs for _, logprobs in steps]).astype(mx.float32), np.float64)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Shapes: log-probabilities `[n, vocabulary]` each to nats `[n]`."""
    return (np.exp(p) * (p - q)).sum(-1)


def same(expected: np.ndarray, got: np.ndarray) -> None:
    """Equal up to float rounding. Rounding may now and then push a later token's value over a code's edge."""
    difference = kl(expected, got)
    assert np.quantile(difference, 0.95) < 1e-5
    assert difference.max() < 2e-2


def poison(caches: Sequence[Any]) -> None:
    """Fill every row that holds no token with codes and scales that would be seen."""
    for cache in caches:
        if cache.empty():
            continue
        codes, scales, *rest = cache.state
        stale = (mx.arange(cache.capacity) >= cache.rows)[:, None]
        codes = mx.where(stale, mx.array(0xF0F0F0F0, mx.uint32), codes)
        cache.state = (codes, mx.where(stale, mx.array(6e4, mx.float16), scales), *rest)


def test_drift_against_the_float_cache_over_512_steps(model: Any) -> None:
    """Coding costs something at once; it must not grow as coded tokens pile up on coded tokens."""
    exact = generated(model, make_prompt_cache(model), tokens_of(48 + 512), 48)
    ours = generated(model, int4_caches(model), tokens_of(48 + 512), 48)
    lost = kl(exact, ours)
    assert len(lost) == 512
    assert np.isfinite(lost).all()
    assert lost.mean() < 0.1
    assert lost[-128:].mean() < 2.5 * lost[:128].mean() + 1e-3
    other = kl(exact, np.roll(exact, 1, axis=0))
    assert lost.mean() < 0.2 * other.mean()  # the bound means something for this model


def test_decode_equals_float_attention_on_the_same_codes(model: Any) -> None:
    tokens = tokens_of(300, seed=1)
    chunks = [100] + [1] * 100 + [5, 8, 9, 40] + [1] * 38
    same(feed(model, coded_caches(model), tokens, chunks), feed(model, int4_caches(model), tokens, chunks))


@pytest.mark.parametrize("prefill_step_size", [1, 7, 8, 9, 31, 64, 257, 2048])
def test_generate_step_with_any_prefill_step_size(model: Any, prefill_step_size: int) -> None:
    """Same prompt, any chunking, a second turn on top: always within the cost of coding of the float cache."""
    exact, ours = make_prompt_cache(model), int4_caches(model)
    prompt, second = tokens_of(300, seed=2), tokens_of(43, seed=3)
    for turn in (prompt, second):
        results = []
        for caches in (exact, ours):
            steps = generate_step(
                turn,
                model,
                max_tokens=1,
                prompt_cache=caches,
                prefill_step_size=prefill_step_size,
                sampler=lambda _: mx.array([7]),  # it is fed to the cache: both conversations must go on alike
            )
            results.append(np.array(next(iter(steps))[1].astype(mx.float32), np.float64)[None])
        assert kl(*results)[0] < 0.15
    assert {c.offset for c in ours} == {c.offset for c in exact}


def test_stale_rows_are_never_read(model: Any) -> None:
    tokens = tokens_of(120, seed=4)
    clean, stale = int4_caches(model), int4_caches(model)
    expected = feed(model, clean, tokens, [30, 1, 1, 5, 20] + [1] * 63)
    got = []
    at = 0
    for n in [30, 1, 1, 5, 20] + [1] * 63:
        poison(stale)
        got.append(feed(model, stale, tokens[at : at + n], [n]))
        at += n
    assert np.array_equal(expected, np.concatenate(got))


def test_capacity_grows_in_steps_and_bytes_are_as_counted(model: Any) -> None:
    caches = int4_caches(model)
    feed(model, caches, tokens_of(250), [250])
    for n, expected in ((6, 256), (1, 512), (255, 512), (1, 768)):
        feed(model, caches, tokens_of(n), [n])
        for cache in caches:
            window = getattr(cache, "max_size", 10**9)
            assert cache.capacity == min(expected, window)
            assert cache.rows == min(cache.offset, window)
            assert cache.nbytes == sum(array.nbytes for array in cache.state[:2])
            assert cache.nbytes * 32 == cache.capacity * cache.kv_heads * 2 * cache.head_dim * 4.5 * 4


def test_trim_takes_back_exactly(model: Any) -> None:
    head, wrong, right = tokens_of(20, seed=5), tokens_of(9, seed=6), tokens_of(12, seed=7)
    straight, trimmed = int4_caches(model), int4_caches(model)
    feed(model, straight, head, [20])
    expected = feed(model, straight, right, [4] * 3)
    feed(model, trimmed, head, [20])
    feed(model, trimmed, wrong, [9])
    assert trim_prompt_cache(trimmed, 9) == 9
    assert np.array_equal(expected, feed(model, trimmed, right, [4] * 3))
    assert trim_prompt_cache(trimmed, 10**6) in (32, 0)


def test_deepcopy_goes_its_own_way(model: Any) -> None:
    caches = int4_caches(model)
    feed(model, caches, tokens_of(50), [50])
    fork = copy.deepcopy(caches)
    one, other = tokens_of(30, seed=8), tokens_of(30, seed=9)
    expected = feed(model, copy.deepcopy(caches), other, [1] * 30)
    feed(model, caches, one, [1] * 30)
    assert np.array_equal(expected, feed(model, fork, other, [1] * 30))


def test_caches_that_go_on_from_one_state_do_not_meet(model: Any) -> None:
    caches = int4_caches(model)
    feed(model, caches, tokens_of(20), [20])
    states = [cache.state for cache in caches]
    forks = [[type(c).from_state(state) for c, state in zip(caches, states, strict=True)] for _ in range(3)]
    one, other = tokens_of(30, seed=8), tokens_of(30, seed=9)
    expected = feed(model, forks[0], other, [10] + [1] * 20)
    assert not np.array_equal(expected, feed(model, forks[1], one, [10] + [1] * 20))
    assert np.array_equal(expected, feed(model, forks[2], other, [10] + [1] * 20))


@pytest.mark.parametrize("length", [5, 31, 43, 300])
@pytest.mark.parametrize("group_size", [32, 64])
def test_save_and_load_through_mlx_lm(model: Any, length: int, group_size: int, tmp_path: Path) -> None:
    caches = int4_caches(model, group_size)
    feed(model, caches, tokens_of(length), [length])
    save_prompt_cache(str(tmp_path / "chat.safetensors"), caches, {"tokens": str(length)})
    loaded, metadata = load_prompt_cache(str(tmp_path / "chat.safetensors"), return_metadata=True)
    assert metadata == {"tokens": str(length)}
    assert [type(c) for c in loaded] == [type(c) for c in caches]
    rest = tokens_of(40, seed=10)
    assert np.array_equal(feed(model, caches, rest, [12] + [1] * 28), feed(model, loaded, rest, [12] + [1] * 28))
    assert [c.nbytes for c in loaded] == [c.nbytes for c in caches]


def test_an_empty_cache_is_saved_and_loaded(tmp_path: Path) -> None:
    save_prompt_cache(str(tmp_path / "empty.safetensors"), [Int4KVCache(3, 64), Int4RotatingKVCache(4, 512)])
    growing, ring = load_prompt_cache(str(tmp_path / "empty.safetensors"))
    assert growing.empty()
    assert growing.nbytes == 0
    assert (growing.layer, growing.group_size, ring.layer, ring.max_size) == (3, 64, 4, 512)


def test_mu_and_smooth_are_part_of_the_state(tmp_path: Path) -> None:
    mu = mx.random.normal((2, 2, 32), key=mx.random.key(1)) * 5
    smooth = mx.random.uniform(0.5, 2.0, (2, 32), key=mx.random.key(2))
    cache = Int4KVCache(0, 32, mu=mu, smooth=smooth)
    k, v = mx.random.normal((2, 1, 2, 20, 32), key=mx.random.key(3)) + mu[:, None, :, None, :]
    cache.update_and_fetch(k, v)
    save_prompt_cache(str(tmp_path / "c.safetensors"), [cache])
    (loaded,) = load_prompt_cache(str(tmp_path / "c.safetensors"))
    q = mx.random.normal((1, 4, 1, 32), key=mx.random.key(4))
    results = [c.update_and_fetch(k[:, :, :1], v[:, :, :1])[0].attend(q, 0.2, None) for c in (cache, loaded)]
    assert mx.array_equal(*results)
    assert mx.array_equal(loaded.mu, mu)
    assert mx.array_equal(loaded.smooth, smooth)
    assert cache.nbytes == sum(array.nbytes for array in cache.state[:2])


@pytest.mark.parametrize("window", [7, 8, 31, 64])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 64, 65, 200])
def test_ring_holds_what_mlx_lms_ring_holds(window: int, length: int) -> None:
    """Every mixture of chunks and steps around the window's edge, masks included, against the oracle."""
    model = build_model("gemma3_text", sliding_window=window)
    tokens = tokens_of(length + 90, seed=length)
    chunks = [length, 1, 1, 3, 20, 1, 33] + [1] * 31
    same(feed(model, coded_caches(model), tokens, chunks), feed(model, int4_caches(model), tokens, chunks))


def test_ring_with_a_smaller_window_in_the_mask() -> None:
    """A model may ask a ring for a mask narrower than the ring: the rows it lets through must be the newest ones."""
    cache = Int4RotatingKVCache(0, 8)
    assert cache.make_mask(1, window_size=4) is None
    step = mx.random.normal((1, 1, 1, 32))
    for position in range(30):
        mask = cache.make_mask(1, window_size=4)
        if position >= 4:
            assert mask is not None
            rows = [r for r, seen in enumerate(mask.tolist()) if seen]
            assert sorted(rows) == sorted(p % 8 for p in range(position - 3, position + 1))
        cache.update_and_fetch(step, step)


def test_no_copy_of_the_cache_is_kept_or_made_in_decode() -> None:
    """While 32 tokens are decoded on 2,048, memory peaks below what one layer's keys alone would take expanded."""
    model = build_model("llama", num_hidden_layers=2, head_dim=128)
    caches = int4_caches(model)
    feed(model, caches, tokens_of(2048), [512] * 4)
    tokens = tokens_of(1)
    feed(model, caches, tokens, [1])
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    for _ in range(32):
        mx.eval(model(tokens[None], cache=caches))
    one_layers_keys = caches[0].rows * caches[0].kv_heads * 128 * 2
    assert mx.get_peak_memory() - before < one_layers_keys


def test_peak_memory_of_prefill_and_decode_is_below_the_float_caches() -> None:
    model = build_model("llama", num_hidden_layers=8, head_dim=128)
    model.set_dtype(mx.bfloat16)
    peaks = {}
    for name, make in (("int4", int4_caches), ("float", make_prompt_cache)):
        caches = make(model)
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        for _ in generate_step(tokens_of(1500), model, max_tokens=4, prompt_cache=caches, prefill_step_size=512):
            pass
        peaks[name] = mx.get_peak_memory() - before
        del caches
    assert peaks["int4"] < peaks["float"]


def test_handles_refuse_to_be_arrays() -> None:
    from app.engine.int4_handle import Int4NotServedError

    cache = Int4KVCache(5)
    keys, _ = cache.update_and_fetch(mx.zeros((1, 2, 3, 64)), mx.zeros((1, 2, 3, 64)))
    assert keys.shape == (1, 2, 3, 64)
    for use in (lambda: keys.transpose(0, 1, 3, 2), lambda: keys[..., :1]):
        with pytest.raises(Int4NotServedError) as caught:
            use()
        assert caught.value.layer == 5
    with pytest.raises(TypeError):
        mx.fast.scaled_dot_product_attention(mx.zeros((1, 2, 1, 64)), keys, keys, scale=1.0)


def test_protocol_names_that_would_change_mlx_lms_behaviour_are_absent() -> None:
    for name in ("bits", "to_quantized", "__len__"):
        assert not hasattr(Int4Cache, name)
        assert not hasattr(Int4KVCache(0), name)
