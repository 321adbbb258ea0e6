"""The host side of the kernels that work on many rows: coding a prompt's keys and values, and expanding codes again.

Shapes as in `kernels.reference`. Both functions expect that `reason_against` returned "".
"""

import functools
from collections.abc import Sequence

import mlx.core as mx

from kernels.codec import Codec
from kernels.layout import SCALE_DTYPE
from kernels.rotation import RotationKind
from kernels.sources import Source, launch, resident

FLOAT_TYPES = (mx.float16, mx.bfloat16, mx.float32)
SHARED_SIZES = (64, 128, 256)
"""Head sizes of which one SIMD-group takes several rows; of any other even one a threadgroup takes one row."""

_SIMDS = 2
"""SIMD-groups of a threadgroup with several rows each: 11 to 14 KB of threadgroup memory."""
_THREADGROUPS = 16384
"""How many of those a launch has at most."""
_CODING_THREADGROUPS = {"cuda": 2640, "metal": _THREADGROUPS}
"""The same of coding: twice what an H100 or H200 holds at a time, so that constants are loaded for several tiles. Not
measured on Metal."""
_MOST_THREADS = 1024

_KEYS_VALUES = ("keys", "values", "table")
_CODED = ("codes", "scales")
_ROWS = ("numbers.h", "codes.h", "srft_rows.h")
_ROW = ("numbers.h", "codes.h", "srft.h")
# As many threadgroups share an NVIDIA core as registers allow without spilling.
_APPEND_ROWS = Source("nibble_append_rows", "append_rows.metal", _ROWS, _KEYS_VALUES, _CODED, resident(32 * _SIMDS, 10))
_APPEND_ROW = Source("nibble_append_row", "append_row.metal", _ROW, _KEYS_VALUES, _CODED)


def reason_against(codec: Codec, dtype: mx.Dtype) -> str:
    """Return why neither operation is fused for this codec and rows of `dtype`, or ""."""
    if codec.rotation.kind is not RotationKind.SRFT:
        return f"no fused kernel for the rotation {codec.rotation.kind.value}"
    if codec.layout.head_dim > _MOST_THREADS:
        return f"no fused kernel for head size {codec.layout.head_dim}"
    if dtype not in FLOAT_TYPES:
        return f"no fused kernel for {dtype}"
    return ""


def quantize(
    codec: Codec, backend: str, keys: mx.array, values: mx.array, threadgroups: int | None = None
) -> tuple[mx.array, mx.array]:
    """Code keys and values of one type, which may be strided, in one launch.

    Shapes: `[B, Hk, L, D]` each, to codes `[2, B, Hk, L, W]` and scales `[2, B, Hk, L, N]`.
    """
    B, Hk, L, _ = keys.shape
    layout = codec.layout
    outputs = [((2, B, Hk, L, layout.words), mx.uint32), ((2, B, Hk, L, layout.groups), SCALE_DTYPE)]
    source = _APPEND_ROWS if layout.head_dim in SHARED_SIZES else _APPEND_ROW
    most = threadgroups or _CODING_THREADGROUPS[backend]
    codes, scales = _launch(source, codec, backend, [keys, values], keys.dtype, (B, Hk, L), outputs, most)
    return codes, scales


def dequantize(
    codec: Codec,
    backend: str,
    codes: mx.array,
    scales: mx.array,
    dtype: mx.Dtype,
    threadgroups: int = _THREADGROUPS,
    after: mx.array | None = None,
) -> mx.array:
    """Expand codes, which may be views of whole buffers, in one launch.

    Shapes: `[2, B, Hk, S, W]` and `[2, B, Hk, S, N]` to `[2, B, Hk, S, D]` of `dtype`; with `after` `[B, Hk, L, D]` to
    `[2, B, Hk, S + L, D]`, whose last L rows are left to be written.
    """
    _, B, Hk, S, _ = codes.shape
    D = codec.layout.head_dim
    inputs = [codes, scales] if after is None else [codes, scales, after]
    outputs = [((2, B, Hk, S + (0 if after is None else after.shape[2]), D), dtype)]
    source = _dequantize_source(D in SHARED_SIZES, after is not None)
    (expanded,) = _launch(source, codec, backend, inputs, dtype, (B, Hk, S), outputs, threadgroups)
    return expanded


@functools.cache
def _dequantize_source(several_rows: bool, room: bool) -> Source:
    inputs = (*_CODED, "after", "table") if room else (*_CODED, "table")
    name = f"nibble_dequantize_row{'s' * several_rows}{'_with_room' * room}"
    limits = resident(32 * _SIMDS, 8) if several_rows else ()
    return Source(
        name,
        "dequantize_rows.metal" if several_rows else "dequantize_row.metal",
        _ROWS if several_rows else _ROW,
        inputs,
        ("expanded",),
        (("ROOM", int(room)), *limits),
    )


def _launch(
    source: Source,
    codec: Codec,
    backend: str,
    inputs: Sequence[mx.array],
    dtype: mx.Dtype,
    shape: tuple[int, int, int],
    outputs: Sequence[tuple[tuple[int, ...], mx.Dtype]],
    threadgroups: int,
) -> list[mx.array]:
    """Launch a kernel on rows of the given batch, heads and tokens."""
    B, Hk, tokens = shape
    D = codec.layout.head_dim
    template: list[tuple[str, object]] = [
        ("T", dtype),
        ("D", D),
        ("G", codec.group_size),
        ("HK", Hk),
        ("MU", codec.mu is not None),
        ("LAMBDA", codec.lam is not None),
        ("SMOOTH", codec.smooth is not None),
    ]
    if D in SHARED_SIZES:
        threads = 32 * _SIMDS
        template.append(("SIMDS", _SIMDS))
        tiles = -(-tokens // (1024 // D))
        across = max(1, min(-(-tiles // _SIMDS), threadgroups // (2 * B * Hk)))
    else:
        threads = 32 * -(-D // 32)
        template += [("N1", _first_factor(D)), ("THREADS", threads)]
        across = tokens
    return launch(source, backend, template, (across, Hk, 2 * B), threads, outputs)([*inputs, codec.table()])


@functools.cache
def _first_factor(head_dim: int) -> int:
    """Return the even divisor of the head size that leaves the least work: the one nearest its square root."""
    divisors = [n for n in range(2, head_dim + 1, 2) if head_dim % n == 0]
    return min(divisors, key=lambda n: (n + head_dim // n, n))
