"""One text architecture of mlx-lm tried with a tiny random model: fp16 and int4, prefill and 64 decode steps each.

The model goes the way that Nibble opens one: the cache is planned by building its graph, started from the weights,
run, and read by calibration. Weights are float32, as MLX has no 16-bit experts on a CPU; "fp16" is the cache that
mlx-lm makes for them.
"""

import functools
import importlib
import inspect
import pkgutil
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import mlx.core as mx
import mlx_lm.models
from mlx.utils import tree_flatten

from app.chat.options import CacheMode
from app.engine.cache_figures import FP16_BYTES, cache_figures
from app.engine.cache_growth import outlook_of
from app.engine.cache_plan import CachePlan, make_caches, plan_cache
from app.engine.calibration import start
from app.engine.kv_cache import Int4Cache
from app.engine.layer_cache import kv_part
from app.engine.sensitivity import kl_of_layers
from tests.architecture_config import VOCABULARY, config_of
from tests.engine.coded_cache import coded_caches

STEPS = 64
CHUNKS = (40, 24)
"""Prefill, in tokens: the first chunk is longer than the windows, the second one finds a ring that is full."""
AT_A_TIME = 8
"""Steps that are computed together: what is slow with models this small is waiting for each."""
ALONE = 4
"""Tokens that are also read without what came before them."""


@dataclass(frozen=True)
class Trial:
    """What came of an architecture."""

    architecture: str
    int4_layers: int = 0
    layers: int = 0
    reasons: tuple[str, ...] = ()
    """Why the layers that stay fp16 do, each reason once."""
    ordinary: int = 0
    """Ordinary attentions of a decode step in fp16: softmax over keys and values of one size, nothing else in it."""
    left: int = 0
    """Those of them that int4 mode leaves to mlx-lm."""
    from_codes: float = 0.0
    """How far int4's logits are from those of float attention over the same codes, as a share like `error`."""
    error: float = 0.0
    """How far int4's logits are from fp16's, as a share of how far they would be without the history."""
    same_token: float = 0.0
    """How often the same token comes first."""
    ratio: float = 1.0
    """fp16 bytes of the conversation over those in int4 mode."""
    not_run: str = ""
    """Why mlx-lm cannot run it here, whatever the cache."""

    @property
    def engaged(self) -> str:
        """Return yes, partly or no; "not run" where there is nothing to say."""
        if self.not_run:
            return "not run"
        if not self.int4_layers:
            return "no"
        return "partly" if self.reasons else "yes"


def architectures() -> list[str]:
    """Return the modules of mlx-lm that are text architectures: those that have a Model and its ModelArgs."""
    return [name for name in module_names() if all(hasattr(_module(name), part) for part in ("Model", "ModelArgs"))]


def module_names() -> list[str]:
    """Return all modules in mlx_lm.models."""
    return sorted(module.name for module in pkgutil.iter_modules(mlx_lm.models.__path__))


def try_architecture(name: str, steps: int = STEPS) -> Trial:
    """Run everything for one architecture. Raises AssertionError where int4 does not do what it promises."""
    model = random_model(name)
    plan = plan_cache(model)
    prompt = mx.random.randint(0, VOCABULARY, (sum(CHUNKS),)).tolist()
    own = make_caches(model, plan, CacheMode.FP16, 32)
    try:
        with _ordinary_attentions() as ordinary:
            tokens, expected = _generate(model, own, prompt, steps)
    except (RuntimeError, ValueError) as error:
        return Trial(name, not_run=str(error))
    caches = make_caches(model, plan, CacheMode.INT4, 32)
    with _ordinary_attentions() as left:
        again, logits = _generate(model, caches, prompt, steps, tokens)
    assert again == tokens
    assert logits.shape == expected.shape
    assert mx.isfinite(logits).any()
    assert not mx.isnan(logits).any()
    _check_bytes(own, caches)
    _calibrates(model, plan, tokens)
    _, by_float = _generate(model, coded_caches(model, 32, plan.reasons), prompt, steps, tokens)
    alone = [model(mx.array([[t]]), cache=make_caches(model, plan, CacheMode.FP16, 32))[0, -1] for t in tokens[-ALONE:]]
    history = _distance(mx.stack(alone), expected[-ALONE:])
    figures = cache_figures(caches, plan, CacheMode.INT4, 32, sum(CHUNKS) + steps)
    return Trial(
        name,
        plan.int4_layers,
        len(plan.reasons),
        tuple(note.reason for note in plan.notes),
        len(ordinary) // steps,
        len(left) // steps,
        _distance(logits, by_float) / history,
        _distance(logits, expected) / history,
        (logits.argmax(-1) == expected.argmax(-1)).mean().item(),
        figures.ratio,
    )


def random_model(name: str, seed: int = 0) -> Any:
    """Return a float32 model whose weights let every layer's attention count."""
    module = _module(name)
    # mlx-lm asks for a signature once for every name in a config.
    with mock.patch.object(inspect, "signature", functools.cache(inspect.signature)):
        model = module.Model(module.ModelArgs.from_dict(config_of(name)))
    mx.random.seed(seed)
    weights = []
    for path, weight in tree_flatten(model.parameters()):
        if mx.issubdtype(weight.dtype, mx.floating):
            # Some are made as zeros, to be loaded: they would hide what comes before them.
            drawn = mx.random.normal(weight.shape) * weight.shape[-1] ** -0.5 if weight.ndim > 1 else weight
            weights.append((path, drawn.astype(mx.float32)))
    model.load_weights(weights, strict=False)
    model.eval()
    return model


def _module(name: str) -> Any:
    # olmo's module asks for this package and uses nothing of it; without, it would end the process.
    sys.modules["hf_olmo"] = types.ModuleType("hf_olmo")
    try:
        return importlib.import_module(f"mlx_lm.models.{name}")
    finally:
        del sys.modules["hf_olmo"]


def _generate(
    model: Any, caches: list[Any], prompt: list[int], steps: int, tokens: list[int] | None = None
) -> tuple[list[int], mx.array]:
    """Read `prompt` and decode greedily, or along `tokens`; returns the tokens and the logits after each."""
    at = 0
    for length in CHUNKS:
        logits = model(mx.array([prompt[at : at + length]]), cache=caches)
        mx.eval([c.state for c in caches])
        at += length
    taken: list[mx.array] = []
    seen = []
    for step in range(steps):
        taken.append(logits[0, -1].argmax() if tokens is None else mx.array(tokens[step]))
        logits = model(taken[-1].reshape(1, 1), cache=caches)
        seen.append(logits[0, -1])
        if not (step + 1) % AT_A_TIME:
            mx.eval(seen)
    return mx.stack(taken).tolist(), mx.stack(seen)


@contextmanager
def _ordinary_attentions() -> Iterator[list[int]]:
    """Note the ordinary attentions of decode steps that MLX computes, by their head size."""
    found: list[int] = []
    original = mx.fast.scaled_dot_product_attention

    def noting(queries: mx.array, keys: mx.array, values: mx.array, **options: Any) -> mx.array:
        mask = options.get("mask")
        plain_mask = not isinstance(mask, mx.array) or mask.dtype == mx.bool_
        if queries.shape[2] == 1 and keys.shape == values.shape and options.get("sinks") is None and plain_mask:
            found.append(keys.shape[3])
        return original(queries, keys, values, **options)

    with mock.patch.object(mx.fast, "scaled_dot_product_attention", noting):
        yield found


def _distance(one: mx.array, other: mx.array) -> float:
    """Return the root of the mean square of differences, but for tokens that are ruled out."""
    apart = mx.where(mx.isfinite(other), one - other, 0)
    return float(apart.square().mean().sqrt())


def _check_bytes(own: list[Any], caches: list[Any]) -> None:
    """Compare what the figures say of int4 layers with the arrays themselves, and with the fp16 run's caches."""
    nothing = CachePlan(())
    for entry, stock in zip(caches, own, strict=True):
        cache = kv_part(entry)
        if not isinstance(cache, Int4Cache):
            assert type(cache) is type(kv_part(stock))
            continue
        figures = cache_figures([cache], nothing, CacheMode.INT4, 32, 0)
        there = cache_figures([kv_part(stock)], nothing, CacheMode.FP16, 32, 0)
        codes, scales = cache.buffers.share(cache.rows)
        assert figures.allocated_bytes == codes.nbytes + scales.nbytes
        assert figures.fp16_used_bytes * kv_part(stock).keys.dtype.size == there.used_bytes * FP16_BYTES
        assert figures.used_bytes * 16 == figures.fp16_used_bytes * 4.5


def _calibrates(model: Any, plan: CachePlan, tokens: list[int]) -> None:
    """Read a few tokens as calibration does, and ask how the caches grow."""
    constants = start(model, plan)
    kl = kl_of_layers(model, plan.reasons, constants.layers, tokens[:20], lambda _: None)
    assert len(kl) == plan.int4_layers
    assert all(nats < 10 for nats in kl.values()), kl
    assert outlook_of(model, plan, constants).fp16.parts
