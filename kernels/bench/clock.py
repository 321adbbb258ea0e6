"""Time of MLX's work on a GPU.

On NVIDIA, CUPTI through PyTorch's profiler in this process sees MLX's kernels too, each with start and duration.
Elsewhere, on Apple's GPUs too, kernels cannot be told apart: what is left is the wall clock, from when a run that was
built is evaluated to its end.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import mlx.core as mx

from kernels.bench.reading import READ_KERNEL

Run = Callable[[], object]
"""Builds arrays and returns them. Evaluating them is what is timed; what a run evaluates itself, CUPTI alone sees."""
Key = TypeVar("Key")

_WARM_UP_S = 1.0
"""A GPU that idles lowers its clocks; Apple's take about this long to raise them."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel's run: start and duration in nanoseconds."""

    start_ns: int
    duration_ns: int
    name: str


@dataclass(frozen=True, slots=True)
class Timing:
    """One run in microseconds: from its start to its end, and by kernel where kernels can be told apart."""

    span_us: float
    by_kernel_us: dict[str, float] = field(default_factory=dict)

    @property
    def busy_us(self) -> float:
        """The kernels' own times added up, what flushes the caches not counted; the span where there are none."""
        if not self.by_kernel_us:
            return self.span_us
        return sum(us for name, us in self.by_kernel_us.items() if READ_KERNEL not in name)


class Clock:
    """Times runs of MLX work. `has_kernels` says whether single kernels can be told apart."""

    def __init__(self) -> None:
        self._profiler = _torch_profiler()
        # Where the driver does not let CUPTI look, it sees nothing.
        self.has_kernels = self._profiler is not None and bool(self._kernels(lambda: mx.arange(8) + 1))

    def time(self, run: Run) -> Timing:
        """Time one run: from its first kernel's start to its last one's end, or by the wall clock without CUPTI."""
        if not self.has_kernels:
            arrays = run()
            mx.synchronize()
            begun = time.perf_counter()
            mx.eval(arrays)
            mx.synchronize()
            return Timing((time.perf_counter() - begun) * 1e6)
        kernels = self._kernels(run)
        by_kernel: dict[str, float] = {}
        for kernel in kernels:
            by_kernel[kernel.name] = by_kernel.get(kernel.name, 0.0) + kernel.duration_ns / 1e3
        end = max(k.start_ns + k.duration_ns for k in kernels)
        return Timing((end - min(k.start_ns for k in kernels)) / 1e3, by_kernel)

    def compare(self, runs: Mapping[Key, Run], rounds: int) -> dict[Key, list[Timing]]:
        """Time all runs in turns, `rounds` times each, after a warm-up; every other round goes the other way round."""
        for run in runs.values():  # compiles
            mx.eval(run())
        begun = time.perf_counter()
        while time.perf_counter() - begun < _WARM_UP_S:
            for run in runs.values():
                mx.eval(run())
        found: dict[Key, list[Timing]] = {key: [] for key in runs}
        for turn in range(rounds):
            for key in list(runs)[:: -1 if turn % 2 else 1]:
                found[key].append(self.time(runs[key]))
        return found

    def _kernels(self, run: Run) -> list[Kernel]:
        torch, profiler = self._profiler
        mx.synchronize()
        with profiler.profile(activities=[profiler.ProfilerActivity.CUDA]) as profile:
            mx.eval(run())
            mx.synchronize()
            torch.cuda.synchronize()
        events = profile.profiler.kineto_results.events()
        return [Kernel(e.start_ns(), e.duration_ns(), e.name()) for e in events if "CUDA" in str(e.device_type())]


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some values, with their 20th and 80th percentile."""

    p20: float
    median: float
    p80: float


def figure(values: list[float]) -> Figure:
    """Return the median and percentiles of at least one value."""
    if len(values) == 1:
        return Figure(values[0], values[0], values[0])
    fifths = statistics.quantiles(values, n=5, method="inclusive")
    return Figure(fifths[0], statistics.median(values), fifths[3])


def _torch_profiler() -> Any:
    try:
        import torch
        from torch import profiler
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.zeros(1, device="cuda")
    return torch, profiler
