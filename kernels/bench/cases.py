"""What is timed: chains of layers, each with a cache of its own, each layer's result feeding the next.

int4's step is one operation, `fused.append_and_attend`: it codes the new token, writes it into the cache and attends.
Its attention alone, `fused.attend`, finds the new token in the cache. bf16's step is what mlx-lm's cache and model do:
two slice updates and `mx.fast.scaled_dot_product_attention`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from kernels import dispatch, fused
from kernels.bench.reading import read_over
from kernels.codec import Codec
from kernels.cuts import Cut
from kernels.layout import BITS, SCALE_DTYPE
from kernels.rotation import Rotation, RotationKind

SHAPES = ((12, 2, 128), (4, 1, 256), (32, 8, 128), (32, 8, 64))
"""Query heads, key/value heads, head size: Qwen2.5-1.5B, Gemma-3 1B, Llama-3.1-8B, Llama-3.2-1B."""
LENGTHS = (256, 1024, 4096, 16384, 65536)
STEP_ROWS = 256
"""Rows by which a cache grows."""
COLD_BYTES = 128 * 2**20
"""Caches that are larger than this together are out of a GPU's last-level cache when their turn comes again."""
_FEWEST_LAYERS, _MOST_LAYERS = 8, 2048


@dataclass(slots=True)
class Layer:
    """One layer's caches: bf16 as mlx-lm keeps it, the same number of rows coded; tokens before and after a step."""

    keys: mx.array
    values: mx.array
    codes: mx.array
    scales: mx.array
    position: mx.array
    end: mx.array


@dataclass(frozen=True, slots=True)
class Case:
    """One shape at one length; `tokens` counts the new one."""

    query_heads: int
    kv_heads: int
    head_dim: int
    tokens: int
    group_size: int = 32

    @property
    def codec(self) -> Codec:
        """The codec all layers use."""
        return _codec(self.head_dim, self.kv_heads, self.group_size)

    @property
    def scale(self) -> float:
        """Softmax scale."""
        return float(self.head_dim**-0.5)

    @property
    def capacity(self) -> int:
        """Rows allocated."""
        return -(-self.tokens // STEP_ROWS) * STEP_ROWS

    @property
    def int4_bytes(self) -> int:
        """Bytes that a step reads of one layer's codes and scales."""
        return 2 * self.kv_heads * self.tokens * self.codec.layout.row_bytes

    @property
    def layer_count(self) -> int:
        """As many layers as make the int4 caches, the smaller ones, `COLD_BYTES` large, within bounds."""
        return min(_MOST_LAYERS, max(_FEWEST_LAYERS, -(-COLD_BYTES // self.int4_bytes)))

    @property
    def is_cold(self) -> bool:
        """Whether a chain of `layer_count` layers finds its caches in memory, and not in the GPU's cache."""
        return self.layer_count * self.int4_bytes >= COLD_BYTES

    def layers(self, count: int) -> list[Layer]:
        """Make `count` layers of random rows."""
        shape = (1, self.kv_heads, self.capacity, self.head_dim)
        made = []
        for _ in range(count):
            layer = Layer(
                mx.random.normal(shape, mx.bfloat16),
                mx.random.normal(shape, mx.bfloat16),
                *self.coded(self.capacity),
                # Computed where MLX computes: an array made of Python's numbers stays in the host's memory.
                mx.full((fused.POSITION_SIZE,), self.tokens - 1, mx.int32),
                mx.full((fused.POSITION_SIZE,), self.tokens, mx.int32),
            )
            mx.eval(layer.keys, layer.values, layer.codes, layer.scales, layer.position, layer.end)
            made.append(layer)
        return made

    def coded(self, rows: int) -> tuple[mx.array, mx.array]:
        """Return codes and scales of random rows, as `kernels.reference.quantize` would."""
        layout = self.codec.layout
        shape = (2, 1, self.kv_heads, rows)
        codes = mx.zeros((*shape, layout.words), mx.uint32)
        for shift in range(0, 32, BITS):
            codes = codes | mx.random.randint(0, 1 << BITS, codes.shape).astype(mx.uint32) << shift
        return codes, mx.random.uniform(-0.3, 0.3, (*shape, layout.groups)).astype(SCALE_DTYPE)

    def query(self) -> mx.array:
        """Return a random query token `[1, Hq, 1, D]` bfloat16."""
        made = mx.random.normal((1, self.query_heads, 1, self.head_dim), mx.bfloat16)
        mx.eval(made)
        return made


Step = Callable[[Case, Layer, mx.array], mx.array]


def bf16_attention(case: Case, layer: Layer, x: mx.array) -> mx.array:
    """MLX's fused attention over the rows that hold a token."""
    n = case.tokens
    return mx.fast.scaled_dot_product_attention(x, layer.keys[..., :n, :], layer.values[..., :n, :], scale=case.scale)


def bf16_step(case: Case, layer: Layer, x: mx.array) -> mx.array:
    """Two slice updates and MLX's attention, as mlx-lm's KVCache does it."""
    at = case.tokens - 1
    keys, values = _new_rows(case, x)
    layer.keys[..., at : at + 1, :] = keys
    layer.values[..., at : at + 1, :] = values
    return bf16_attention(case, layer, x)


def int4_attention(case: Case, layer: Layer, x: mx.array) -> mx.array:
    """Attend on the codes of all tokens, the new one's among them."""
    buffers = (layer.codes, layer.scales, layer.end)
    result, _ = fused.attend(case.codec, dispatch.backend(), x, *buffers, case.tokens, case.scale)
    return result


def int4_step(case: Case, layer: Layer, x: mx.array, cut: Cut | None = None) -> mx.array:
    """Code the new token, write it into the cache, attend; `cut` where another than the rule's is tried."""
    result, _ = fused.append_and_attend(
        case.codec,
        dispatch.backend(),
        x,
        *_new_rows(case, x),
        layer.codes,
        layer.scales,
        layer.position,
        case.tokens,
        case.scale,
        None,
        0,
        cut,
    )
    return result


def chain(
    case: Case, layers: list[Layer], step: Step, query: mx.array, *, flush: bool = False
) -> Callable[[], mx.array]:
    """Return what builds a run of all layers, one after the other, and gives the last one's result, not computed yet.

    With `flush` the GPU's caches are read over before each layer.
    """

    def run() -> mx.array:
        x = query
        for layer in layers:
            if flush:
                x = read_over(x, dispatch.backend())
            x = step(case, layer, x)
        return x

    return run


def _new_rows(case: Case, x: mx.array) -> tuple[mx.array, mx.array]:
    """A step's keys and values: views of the last layer's result, so that layers cannot overlap."""
    keys = x[:, : case.kv_heads]
    return keys, keys


@functools.cache
def _codec(head_dim: int, kv_heads: int, group_size: int) -> Codec:
    """Return a codec as calibration leaves one: centred, its keys smoothed."""
    mu = mx.random.normal((2, kv_heads, head_dim))
    smooth = mx.random.uniform(0.5, 2.0, (kv_heads, head_dim))
    return Codec(Rotation(RotationKind.SRFT, head_dim, 0), group_size, mu, None, smooth)
