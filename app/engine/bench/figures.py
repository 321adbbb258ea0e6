"""What the benchmark measured, as frozen values that become its line of JSON. Times are per token."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.chat.figures import CacheFigures
from kernels.bench.clock import Figure, figure


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """What the GPU did for a decoded token, as CUPTI saw it, which slows the host a little."""

    busy_ms: float
    """Sum of the kernels' times: what a token would take if the host never kept the GPU waiting."""
    span_ms: float
    """From the first kernel's start to the last one's end, waits included."""
    longest_ms: tuple[tuple[str, float], ...]
    """The kernels that took most of the time, all calls of one name together."""


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """One cache mode at one context."""

    decode_ms: Figure
    """Wall clock."""
    build_ms: float
    """Of it, Python's part: building a step's graph. Median."""
    submit_ms: float
    """Of it, handing the graph to MLX, which also waits there once the device has enough to do. Median."""
    gpu: GpuFigures | None
    """None where kernels cannot be told apart: on a CPU, on a Mac, without PyTorch."""
    prefill_tokens_per_s: float
    prefill_peak_bytes: int
    decode_peak_bytes: int
    """Highest `active` memory of MLX, weights included, as if this mode were alone in the process."""
    cache: CacheFigures


@dataclass(frozen=True, slots=True)
class ContextFigures:
    """Both modes at one context, and how int4 compares: speeds above 1 mean that int4 is faster."""

    context_tokens: int
    fp16: ModeFigures
    int4: ModeFigures
    speed: float
    """Ratio of the medians of the wall clock, fp16 / int4."""
    round_speed: Figure
    """The same ratio within every round."""
    gpu_speed: float | None
    """Ratio of the kernels' times, fp16 / int4."""
    prefill_speed: float
    logits_difference: float
    """Relative difference of int4's next logits from fp16's, in the Euclidean norm."""


def compared(
    context_tokens: int,
    fp16: ModeFigures,
    int4: ModeFigures,
    rounds: Sequence[tuple[float, float]],
    logits_difference: float,
) -> ContextFigures:
    """Put both modes side by side; `rounds` are the times of fp16 and int4 in each round."""
    return ContextFigures(
        context_tokens=context_tokens,
        fp16=fp16,
        int4=int4,
        speed=fp16.decode_ms.median / int4.decode_ms.median,
        round_speed=figure([fp16_ms / int4_ms for fp16_ms, int4_ms in rounds]),
        gpu_speed=fp16.gpu.busy_ms / int4.gpu.busy_ms if fp16.gpu and int4.gpu else None,
        prefill_speed=int4.prefill_tokens_per_s / fp16.prefill_tokens_per_s,
        logits_difference=logits_difference,
    )
