"""Decode speed of a whole model, int4 against fp16: `python -m app.engine.bench [--model FOLDER] [--context 2048]`.

Both caches are filled with the same tokens once. Then the two modes take turns, `--tokens` greedy steps each, the order
turned round every round, and each cache is trimmed back to the context. Prints medians with their 20th and 80th
percentile, the median of the rounds' ratios, and last one line of JSON with machine and versions.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

from app.chat.options import GROUP_SIZES, CacheMode
from app.chat.plain import to_plain
from app.engine.cache_figures import cache_figures
from app.engine.cache_plan import make_caches
from app.engine.machine import machine_facts
from app.engine.model_folder import OpenModel, open_model
from app.errors import NibbleError
from app.resources import starter_model_path

_CHUNK = 256


def main() -> None:
    """Run the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m app.engine.bench", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--model", type=Path, default=starter_model_path(), help="a model folder (default: the starter)"
    )
    parser.add_argument("--context", type=int, default=2048, help="tokens in the cache before a step (default: 2048)")
    parser.add_argument("--tokens", type=int, default=16, help="steps of one mode in one round (default: 16)")
    parser.add_argument("--rounds", type=int, default=12, help="rounds (default: 12)")
    parser.add_argument("--group-size", type=int, choices=GROUP_SIZES, default=GROUP_SIZES[0])
    arguments = parser.parse_args()
    opened = open_model(arguments.model, lambda _: None)
    print(json.dumps(measure(opened, arguments.context, arguments.tokens, arguments.rounds, arguments.group_size)))


def measure(opened: OpenModel, context: int, tokens: int, rounds: int, group_size: int) -> dict[str, Any]:
    """Measure both modes, print a table, and return what the JSON line holds. Raises NibbleError for a ring cache."""
    prompt = mx.random.randint(0, 256, (context,), key=mx.random.key(0))
    caches = {mode: make_caches(opened.model, opened.plan, mode, group_size) for mode in CacheMode}
    for filled in caches.values():
        _fill(opened.model, filled, prompt)
        if not can_trim_prompt_cache(filled):
            raise NibbleError("This context fills a sliding window, which cannot be trimmed.", "Ask for a shorter one.")
    speeds: dict[CacheMode, list[float]] = {mode: [] for mode in CacheMode}
    for turn in range(-1, rounds):  # the first round warms up
        for mode in sorted(CacheMode, reverse=turn % 2 == 0):
            speed = _decode(opened.model, caches[mode], tokens)
            if turn >= 0:
                speeds[mode].append(speed)
    ratio = statistics.median(a / b for a, b in zip(speeds[CacheMode.INT4], speeds[CacheMode.FP16], strict=True))
    figures = {mode: cache_figures(caches[mode], opened.plan, mode, group_size, context) for mode in CacheMode}
    for mode in CacheMode:
        p20, p50, p80 = _percentiles(speeds[mode])
        kv_bytes = figures[mode].allocated_bytes
        print(f"{mode.value}  {p50:7.1f} tokens/s  (p20 {p20:.1f}, p80 {p80:.1f})  {kv_bytes:,} KV bytes")
    print(f"int4 / fp16: {ratio:.2f} at {context:,} tokens of context, {rounds} interleaved rounds of {tokens} steps")
    return {
        "benchmark": "decode",
        "model": to_plain(opened.facts),
        "context_tokens": context,
        "tokens_a_round": tokens,
        "rounds": rounds,
        "tokens_per_s": {mode.value: _percentiles(speeds[mode]) for mode in CacheMode},
        "int4_over_fp16": ratio,
        "cache": {mode.value: to_plain(figures[mode]) for mode in CacheMode},
        "machine": to_plain(machine_facts()),
    }


def _fill(model: Any, caches: list[Any], prompt: mx.array) -> None:
    for start in range(0, prompt.size, _CHUNK):
        model(prompt[None, start : start + _CHUNK], cache=caches)
        mx.eval([c.state for c in caches])


def _decode(model: Any, caches: list[Any], tokens: int) -> float:
    """Return tokens per second of greedy steps, and take them back."""
    token = mx.array([[0]])
    begun = time.perf_counter()
    for _ in range(tokens):
        token = model(token, cache=caches)[:, -1, :].argmax(axis=-1, keepdims=True)
        mx.eval(token)
    elapsed = time.perf_counter() - begun
    trim_prompt_cache(caches, tokens)
    return tokens / elapsed


def _percentiles(values: list[float]) -> tuple[float, float, float]:
    fifths = statistics.quantiles(values, n=5, method="inclusive")
    return fifths[0], statistics.median(values), fifths[3]


if __name__ == "__main__":
    main()
