"""Both cache modes at one context: prefill, decode steps in turns, GPU time, peak memory."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import trim_prompt_cache

from app.chat.options import CacheMode
from app.engine.bench.figures import ContextFigures, GpuFigures, ModeFigures, compared
from app.engine.cache_figures import cache_figures
from app.engine.cache_plan import make_caches
from app.engine.model_folder import OpenModel
from app.errors import NibbleError
from kernels.bench.clock import Clock, Timing, figure
from kernels.reference import MAX_QUERIES

_GPU_ROUNDS = 3
_LONGEST = 12


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured, and in which portions."""

    group_size: int
    chunk_tokens: int
    """Prefill's portion."""
    prefills: int
    """Prefills of each mode, of which the last one counts: on a GPU the first ones compile."""
    tokens: int
    """Decode steps of one mode in one round."""
    rounds: int
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """Milliseconds of a decode step: by the wall clock; of it, building its graph, and handing that to MLX."""

    wall_ms: float
    build_ms: float
    submit_ms: float


def check_comparable(opened: OpenModel) -> None:
    """Raise NibbleError where no layer of a model can be int4: both modes would be the same."""
    if opened.plan.int4_layers == 0:
        reasons = "; ".join(note.reason for note in opened.plan.notes)
        raise NibbleError(f"No layer of {opened.facts.name} can hold its cache in int4: {reasons}.", "Choose another.")


def warm_up(opened: OpenModel, effort: Effort) -> None:
    """Run a few tokens in both modes, so that compiling and trying kernels counts in nobody's time or memory."""
    for mode in CacheMode:
        run = ModeRun(opened, mode, effort)
        for _ in range(2):  # the second chunk meets a history
            run.read(mx.zeros(2 * MAX_QUERIES, mx.int32))
        run.decode(2)
    mx.clear_cache()


def measure(opened: OpenModel, context: int, effort: Effort, clock: Clock) -> ContextFigures:
    """Measure both modes at `context` tokens.

    After its steps a cache is turned back to the context. Where it cannot be, since a sliding window is full, it goes
    on from there: the window holds as many tokens as before.
    """
    prompt = mx.random.randint(0, 256, (context,), key=mx.random.key(0))
    mx.eval(prompt)
    mx.clear_cache()
    weights_bytes = mx.get_active_memory()
    runs: dict[CacheMode, ModeRun] = {}
    logits: dict[CacheMode, mx.array] = {}
    for turn in range(effort.prefills):
        runs.clear()
        for mode in _turn(turn):
            run = ModeRun(opened, mode, effort)
            logits[mode] = run.fill(prompt, others_bytes=mx.get_active_memory() - weights_bytes)
            runs[mode] = run
    difference = _difference(logits.pop(CacheMode.FP16), logits.pop(CacheMode.INT4))
    warm_at = time.perf_counter() + effort.warm_up_s
    while time.perf_counter() < warm_at:
        for run in runs.values():
            run.decode(effort.tokens)
    for turn in range(effort.rounds):
        for mode in _turn(turn):
            runs[mode].time_round()
    if clock.has_kernels:
        for turn in range(_GPU_ROUNDS):
            for mode in _turn(turn):
                runs[mode].time_kernels(clock)
    fp16, int4 = runs[CacheMode.FP16], runs[CacheMode.INT4]
    rounds = [(a.wall_ms, b.wall_ms) for a, b in zip(fp16.steps, int4.steps, strict=True)]
    return compared(context, fp16.figures(context), int4.figures(context), rounds, difference)


class ModeRun:
    """One mode's caches, and what was measured with them."""

    def __init__(self, opened: OpenModel, mode: CacheMode, effort: Effort) -> None:
        self.opened = opened
        self.mode = mode
        self.effort = effort
        self.caches = make_caches(opened.model, opened.plan, mode, effort.group_size)
        self.steps: list[Step] = []
        self.gpu_times: list[Timing] = []
        self.prefill_s = 0.0
        self.prefill_peak_bytes = 0
        self.decode_peak_bytes = 0

    def fill(self, prompt: mx.array, others_bytes: int) -> mx.array:
        """Read the prompt, then decode a round, and return the logits between the two, `[1, vocabulary]` float32.

        `others_bytes` of what MLX holds is not this mode's.
        """
        mx.reset_peak_memory()
        begun = time.perf_counter()
        self.read(prompt)
        mx.synchronize()
        self.prefill_s = time.perf_counter() - begun
        self.prefill_peak_bytes = mx.get_peak_memory() - others_bytes
        mx.reset_peak_memory()
        # Before any greedy step: a full window keeps what it took, and modes that choose other tokens part ways.
        logits = self.next_logits()
        self.decode(self.effort.tokens)
        self.decode_peak_bytes = mx.get_peak_memory() - others_bytes
        return logits

    def read(self, prompt: mx.array) -> None:
        """Prefill as mlx-lm does: of a chunk, only the caches are computed."""
        for start in range(0, prompt.size, self.effort.chunk_tokens):
            self.opened.model(prompt[None, start : start + self.effort.chunk_tokens], cache=self.caches)
            mx.eval([c.state for c in self.caches])
            mx.clear_cache()

    def decode(self, tokens: int) -> Step:
        """Take greedy steps as mlx-lm does, one step ahead of the device, and take them back."""
        token = mx.zeros((1, 1), mx.int32)
        build_s = submit_s = 0.0
        begun = time.perf_counter()
        for _ in range(tokens):
            building = time.perf_counter()
            following = self._logits(token).argmax(axis=-1, keepdims=True)
            submitting = time.perf_counter()
            mx.async_eval(following)  # type: ignore[no-untyped-call]
            build_s += submitting - building
            submit_s += time.perf_counter() - submitting
            token.item()
            token = following
        token.item()
        wall_s = time.perf_counter() - begun
        mx.synchronize()
        trim_prompt_cache(self.caches, tokens)
        return Step(*(1e3 * s / tokens for s in (wall_s, build_s, submit_s)))

    def time_round(self) -> None:
        """Time one round of decode steps."""
        self.steps.append(self.decode(self.effort.tokens))

    def time_kernels(self, clock: Clock) -> None:
        """Take the GPU's time for one round of decode steps."""

        def decode() -> None:
            self.decode(self.effort.tokens)

        self.gpu_times.append(clock.time(decode))

    def next_logits(self) -> mx.array:
        """Return the logits of one more token, in float32, and take it back."""
        logits = self._logits(mx.zeros((1, 1), mx.int32)).astype(mx.float32)
        mx.eval(logits)
        trim_prompt_cache(self.caches, 1)
        return logits

    def figures(self, context: int) -> ModeFigures:
        """Return what was measured."""
        return ModeFigures(
            decode_ms=figure([s.wall_ms for s in self.steps]),
            build_ms=statistics.median(s.build_ms for s in self.steps),
            submit_ms=statistics.median(s.submit_ms for s in self.steps),
            gpu=gpu_figures(self.gpu_times, self.effort.tokens) if self.gpu_times else None,
            prefill_tokens_per_s=context / self.prefill_s,
            prefill_peak_bytes=self.prefill_peak_bytes,
            decode_peak_bytes=self.decode_peak_bytes,
            cache=cache_figures(self.caches, self.opened.plan, self.mode, self.effort.group_size, context),
        )

    def _logits(self, token: mx.array) -> mx.array:
        logits: mx.array = self.opened.model(token, cache=self.caches)[:, -1, :]
        return logits


def gpu_figures(times: list[Timing], tokens: int) -> GpuFigures:
    """Return the GPU's time for one token: of several timings of `tokens` decode steps, the middle one."""
    middle = sorted(times, key=lambda t: t.busy_us)[len(times) // 2]
    longest = sorted(middle.by_kernel_us.items(), key=lambda item: -item[1])[:_LONGEST]
    return GpuFigures(
        busy_ms=middle.busy_us / 1e3 / tokens,
        span_ms=middle.span_us / 1e3 / tokens,
        longest_ms=tuple((name, us / 1e3 / tokens) for name, us in longest),
    )


def _turn(turn: int) -> list[CacheMode]:
    """Return both modes, in an order that turns round every time."""
    return sorted(CacheMode, reverse=turn % 2 == 0)


def _difference(fp16: mx.array, int4: mx.array) -> float:
    found: Any = (mx.linalg.norm(int4 - fp16) / mx.linalg.norm(fp16)).item()
    difference = float(found)
    if not difference < float("inf"):
        raise RuntimeError(f"[bench] expected finite logits in both modes, got a difference of {difference}.")
    return difference
