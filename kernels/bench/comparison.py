"""One decode step at one shape and length, bf16 by MLX beside int4 by the fused kernels, in interleaved rounds.

- `attention_us`: bf16's is `mx.fast.scaled_dot_product_attention`, int4's `fused.attend`; the cache holds the new token
  already. On NVIDIA the L2 cache is flushed before each layer and the kernels' times are added up.
- `step_kernels_us` and `step_span_us`: the whole step of both, as a chain of layers with caches of their own: the
  kernels' times added up (NVIDIA only), and the span from first start to last end, or from evaluation to end by the
  wall clock. On a machine that launches kernels more slowly than its GPU runs them the span is the host's time:
  `step_span_bound_by_host`.
- `host_us`: the host's time a layer to build the graph, to evaluate it (`mx.async_eval`), and all until it is done.

A chain has as many layers as make the int4 caches 128 MiB, so that they come from memory without a flush too. Where
that would be too many layers, `chain_is_cold` is false.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx

from kernels.bench.cases import Case, Layer, Step, bf16_attention, bf16_step, chain, int4_attention, int4_step
from kernels.bench.clock import Clock, Figure, Timing, figure
from kernels.bench.reading import READ_KERNEL

WALL_CLOCK = "wall clock of a chain"
KERNELS = "CUPTI kernels"
_FLUSHED_LAYERS = 8
_HOST_LAYERS = 28
_HOST_ROUNDS = 20
_HOST_BOUND = 0.75
"""Where kernels fill less of the span than this, or the host's evaluation more of it, the GPU waited for the host."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of both, and how it was measured."""

    bf16: Figure
    int4: Figure
    measured: str

    @property
    def ratio(self) -> float:
        """bf16 / int4: how many times faster int4 is."""
        return self.bf16.median / self.int4.median

    def plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**asdict(self), "ratio": self.ratio}


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one case; microseconds a layer. Where kernels cannot be told apart they are left out."""

    case: Case
    layers: int
    attention_us: Pair
    step_kernels_us: Pair | None
    step_span_us: Pair
    host_us: dict[str, Pair]
    read_gb_s: float
    read_by: str
    by_kernel_us: dict[str, dict[str, float]]

    @property
    def host_bound(self) -> bool:
        """Whether int4's chain waited for the host: kernels leave gaps in it, or the host evaluates for as long."""
        span_us = self.step_span_us.int4.median
        if self.step_kernels_us is None:
            return self.host_us["evaluate"].int4.median > _HOST_BOUND * span_us
        return self.step_kernels_us.int4.median < _HOST_BOUND * span_us

    def plain(self, read_ceiling_gb_s: float) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            **asdict(self.case),
            "layers": self.layers,
            "chain_is_cold": self.case.is_cold,
            "attention_us": self.attention_us.plain(),
            "step_kernels_us": self.step_kernels_us and self.step_kernels_us.plain(),
            "step_span_us": self.step_span_us.plain(),
            "step_span_bound_by_host": self.host_bound,
            "host_us": {name: pair.plain() for name, pair in self.host_us.items()},
            "read_gb_s": self.read_gb_s,
            "read_share_of_ceiling": self.read_gb_s / read_ceiling_gb_s,
            "read_by": self.read_by,
            "by_kernel_us": self.by_kernel_us,
        }


def compare(clock: Clock, case: Case, rounds: int) -> Row:
    """Measure one case."""
    layers, query = case.layers(case.layer_count), case.query()
    flush = clock.has_kernels
    cold = layers[:_FLUSHED_LAYERS] if flush else layers
    runs = {
        "bf16 attention": chain(case, cold, bf16_attention, query, flush=flush),
        "int4 attention": chain(case, cold, int4_attention, query, flush=flush),
        "bf16 step": chain(case, layers, bf16_step, query),
        "int4 step": chain(case, layers, int4_step, query),
    }
    counts = {name: len(cold if "attention" in name else layers) for name in runs}
    timings = clock.compare(runs, rounds)
    work = {name: figure([t.busy_us / counts[name] for t in timings[name]]) for name in runs}
    span = {name: figure([t.span_us / counts[name] for t in timings[name]]) for name in runs}
    first_pass = [_first_pass_us(t) / len(cold) for t in timings["int4 attention"]] if flush else []
    wall = f"{WALL_CLOCK}, {'cold' if case.is_cold else 'warm'}"
    return Row(
        case=case,
        layers=len(layers),
        attention_us=Pair(
            work["bf16 attention"], work["int4 attention"], f"{KERNELS} added up, L2 flushed" if flush else wall
        ),
        step_kernels_us=Pair(work["bf16 step"], work["int4 step"], f"{KERNELS} added up") if flush else None,
        step_span_us=Pair(
            span["bf16 step"], span["int4 step"], f"{KERNELS}, first start to last end" if flush else wall
        ),
        host_us=_host(case, layers[:_HOST_LAYERS], query),
        read_gb_s=case.int4_bytes / 1e3 / (figure(first_pass) if flush else span["int4 step"]).median,
        read_by="the first pass, L2 flushed" if flush else "the whole step",
        by_kernel_us={name: _by_kernel_us(timings[name][-1], counts[name]) for name in runs if flush},
    )


def kernel_name(name: str) -> str:
    """Return a kernel's name without what MLX and templates add to it."""
    for part in ("attend_merge", "attend_whole", "attend", "append", "dequantize", "read"):
        if f"nibble_{part}" in name:
            return part
    return name[:60]


def _by_kernel_us(timing: Timing, layers: int) -> dict[str, float]:
    """Return microseconds a layer by short name, the flush left out."""
    found: dict[str, float] = {}
    for name, us in timing.by_kernel_us.items():
        if READ_KERNEL not in name:
            found[kernel_name(name)] = found.get(kernel_name(name), 0.0) + us / layers
    return found


def _first_pass_us(timing: Timing) -> float:
    return sum(us for name, us in timing.by_kernel_us.items() if kernel_name(name) in ("attend", "attend_whole"))


def _host(case: Case, layers: list[Layer], query: mx.array) -> dict[str, Pair]:
    steps: dict[str, Step] = {"bf16": bf16_step, "int4": int4_step}
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in steps}
    for turn in range(-2, _HOST_ROUNDS):  # the first ones warm up
        for name in sorted(steps, reverse=turn % 2 == 0):
            times = _host_times_us(case, layers, steps[name], query)
            if turn >= 0:
                found[name].append(times)
    figures = {name: [figure(list(column)) for column in zip(*times, strict=True)] for name, times in found.items()}
    return {
        what: Pair(figures["bf16"][i], figures["int4"][i], f"host's clock, {len(layers)} layers")
        for i, what in enumerate(("build", "evaluate", "until_done"))
    }


def _host_times_us(case: Case, layers: list[Layer], step: Step, query: mx.array) -> tuple[float, ...]:
    """Return microseconds a layer to build the graph, to evaluate it, and from the beginning until it is done."""
    mx.synchronize()
    begun = time.perf_counter()
    result = chain(case, layers, step, query)()
    built = time.perf_counter()
    mx.async_eval(result)  # type: ignore[no-untyped-call]
    evaluated = time.perf_counter()
    mx.synchronize()
    done = time.perf_counter()
    return tuple(s * 1e6 / len(layers) for s in (built - begun, evaluated - built, done - begun))
