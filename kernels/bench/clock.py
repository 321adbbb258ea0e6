"""GPU time of MLX's kernels.

On NVIDIA, CUPTI through PyTorch's profiler in this process sees MLX's kernels too, each with start and duration.
Elsewhere there is only the wall clock around a whole synchronized run.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

_PAUSE_NS = 4_000_000
"""A gap this long lies between two runs, not inside one."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel's run: start and duration in nanoseconds."""

    start_ns: int
    duration_ns: int
    name: str


class Clock:
    """Measures runs of MLX work. `has_kernels` says whether single kernels can be told apart."""

    def __init__(self) -> None:
        self._profiler = _torch_profiler()
        self.has_kernels = self._profiler is not None

    def kernels(self, run: Callable[[], None]) -> list[Kernel]:
        """Return the kernels that `run` started, in order. Only where `has_kernels`."""
        torch, profiler = self._profiler
        mx.synchronize()
        with profiler.profile(activities=[profiler.ProfilerActivity.CUDA]) as profile:
            run()
            mx.synchronize()
            torch.cuda.synchronize()
        events = profile.profiler.kineto_results.events()
        found = [Kernel(e.start_ns(), e.duration_ns(), e.name()) for e in events if "CUDA" in str(e.device_type())]
        return sorted(found, key=lambda k: k.start_ns)

    def span_us(self, run: Callable[[], None], repeats: int) -> float:
        """Return microseconds from a run's first kernel to its last one's end; wall time without CUPTI."""
        run()
        if not self.has_kernels:
            times = []
            for _ in range(repeats):
                mx.synchronize()
                begun = time.perf_counter()
                run()
                mx.synchronize()
                times.append((time.perf_counter() - begun) * 1e6)
            return statistics.median(times)
        kernels = self.kernels(_repeated(run, repeats))
        covered, end = 0, kernels[0].start_ns
        for kernel in kernels:
            stop = kernel.start_ns + kernel.duration_ns
            covered += max(0, stop - end) if kernel.start_ns - end < _PAUSE_NS else kernel.duration_ns
            end = max(end, stop)
        return covered / 1e3 / repeats

    def by_kernel_us(self, run: Callable[[], None], repeats: int) -> dict[str, list[float]]:
        """Return every kernel's durations in microseconds, by name. Only where `has_kernels`."""
        run()
        found: dict[str, list[float]] = {}
        for kernel in self.kernels(_repeated(run, repeats)):
            found.setdefault(kernel.name, []).append(kernel.duration_ns / 1e3)
        return found


def _repeated(run: Callable[[], None], times: int) -> Callable[[], None]:
    def all_runs() -> None:
        for _ in range(times):
            run()

    return all_runs


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
