"""Coding of many vectors at once, as in prefill: time a vector, and how near that comes to copying its bytes."""

from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx

from kernels import bulk
from kernels.bench.clock import Clock, Figure, figure
from kernels.codec import make_codec

VECTORS = 262144
"""Keys and values together."""
HEAD_SIZES = (64, 128, 256)
_KV_HEADS = 8
_LAUNCHES = 4


@dataclass(frozen=True, slots=True)
class Append:
    """What was measured at one head size; bytes are those that must be read and written."""

    head_dim: int
    group_size: int
    vectors: int
    launch_us: Figure
    bytes_a_vector: int

    @property
    def ns_a_vector(self) -> float:
        """Nanoseconds a vector."""
        return self.launch_us.median * 1e3 / self.vectors

    @property
    def gb_s(self) -> float:
        """Bytes read and written in GB/s."""
        return self.bytes_a_vector / self.ns_a_vector

    def plain(self, copy_ceiling_gb_s: float) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            **asdict(self),
            "ns_a_vector": self.ns_a_vector,
            "gb_s": self.gb_s,
            "share_of_copy_ceiling": self.gb_s / copy_ceiling_gb_s,
        }


def measure(clock: Clock, backend: str, head_dim: int, group_size: int, rounds: int, vectors: int = VECTORS) -> Append:
    """Time launches that code `vectors` bfloat16 vectors, half of them keys; inputs come from memory.

    Launches that depend on nothing may overlap: what counts is from the first one's start to the last one's end.
    """
    codec = make_codec(head_dim, group_size, 0)
    shape = (2, 1, _KV_HEADS, vectors // 2 // _KV_HEADS, head_dim)
    inputs = [tuple(mx.random.normal(shape, mx.bfloat16)) for _ in range(_LAUNCHES)]
    mx.eval(inputs)

    def run() -> list[tuple[mx.array, mx.array]]:
        return [bulk.quantize(codec, backend, keys, values) for keys, values in inputs]

    timings = clock.compare({"append": run}, rounds)["append"]
    launch_us = figure([t.span_us / _LAUNCHES for t in timings])
    bytes_a_vector = head_dim * mx.bfloat16.size + codec.layout.row_bytes
    return Append(head_dim, group_size, vectors, launch_us, bytes_a_vector)
