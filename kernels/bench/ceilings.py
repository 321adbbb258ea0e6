"""What this GPU's memory can do: the ceilings that every other figure stands under."""

from dataclasses import dataclass

import mlx.core as mx

from kernels.bench.clock import Clock, Run, Timing, figure
from kernels.bench.reading import READ_BYTES, read_over

_COPY_BYTES = 256 * 2**20
_ROUNDS = 5
_READS = 10
_COPIES = 4
_THREADGROUPS = (264, 528, 1056, 2112)


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Bytes read, and bytes read and written, in GB/s (10^9 bytes)."""

    read_gb_s: float
    copy_gb_s: float


def measure(clock: Clock, backend: str) -> Ceilings:
    """Measure both: a kernel that reads 256 MiB, in the best of four grids, and `a * 2.0` of 256 MiB of bfloat16."""
    x = mx.zeros((32,), mx.bfloat16)
    a = mx.random.normal((_COPY_BYTES // mx.bfloat16.size,), mx.bfloat16)
    mx.eval(x, a)

    def read(threadgroups: int) -> Run:
        def run() -> mx.array:
            y = x
            for _ in range(_READS):
                y = read_over(y, backend, threadgroups=threadgroups)
            return y

        return run

    def copy() -> list[mx.array]:
        # Each into memory of its own: a chain of them would write over what it reads.
        return [a * 2.0 for _ in range(_COPIES)]

    reads = clock.compare({n: read(n) for n in _THREADGROUPS}, _ROUNDS)
    copies = clock.compare({"copy": copy}, _ROUNDS)["copy"]
    read_us = min(_median_us(timings) for timings in reads.values())
    return Ceilings(_READS * READ_BYTES / read_us / 1e3, _COPIES * 2 * _COPY_BYTES / _median_us(copies) / 1e3)


def _median_us(timings: list[Timing]) -> float:
    """Return the median of the kernels' own times, or of the spans where there are none."""
    return figure([sum(t.by_kernel_us.values()) or t.span_us for t in timings]).median
