"""What is timed: chains of layers, each with a cache of its own, each layer's result feeding the next."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from kernels import fused
from kernels.codec import Codec, make_codec

SHAPES = ((12, 2, 128), (4, 1, 256), (32, 8, 128), (32, 8, 64))
"""Query heads, key/value heads, head size: Qwen2.5-1.5B, Gemma-3 1B, Llama-3.1-8B, Llama-3.2-1B."""
LENGTHS = (256, 1024, 4096, 16384, 65536)
STEP_ROWS = 256
_FLUSH_FLOATS = 64 * 2**20

_FLUSH = """
  float sum = 0;
  const float4* in = (const float4*)big;
  const long threads = (long)gridDim.x * blockDim.x;
  for (long i = (long)blockIdx.x * blockDim.x + threadIdx.x; i < (long)big_shape[0] / 4; i += threads) {
    const float4 a = in[i];
    sum += a.x + a.y + a.z + a.w;
  }
  if (blockIdx.x == 0) {
    int n = 1;
    for (int i = 0; i < x_ndim; i++) n *= x_shape[i];
    for (int i = threadIdx.x; i < n; i += blockDim.x) out[i] = x[i];
  }
  if (sum == 1.2345f) out[0] = T(sum);
"""


@dataclass(slots=True)
class Layer:
    """One layer's caches: bf16 as mlx-lm keeps it, and the same rows coded."""

    keys: mx.array
    values: mx.array
    codes: mx.array
    scales: mx.array


@dataclass(frozen=True, slots=True)
class Case:
    """One shape at one length; `tokens` counts the new one."""

    query_heads: int
    kv_heads: int
    head_dim: int
    tokens: int
    group_size: int

    @property
    def codec(self) -> Codec:
        """The codec all layers use."""
        return _codec(self.head_dim, self.group_size)

    @property
    def scale(self) -> float:
        """Softmax scale."""
        return float(self.head_dim**-0.5)

    @property
    def capacity(self) -> int:
        """Rows allocated."""
        return -(-self.tokens // STEP_ROWS) * STEP_ROWS

    def layers(self, count: int) -> list[Layer]:
        """Make `count` layers of random rows."""
        shape = (1, self.kv_heads, self.capacity, self.head_dim)
        layout = self.codec.layout
        made = []
        for _ in range(count):
            made.append(
                Layer(
                    mx.random.normal(shape).astype(mx.bfloat16),
                    mx.random.normal(shape).astype(mx.bfloat16),
                    mx.random.randint(0, 2**31 - 1, (2, *shape[:3], layout.words)).astype(mx.uint32),
                    mx.random.uniform(0.05, 0.3, (2, *shape[:3], layout.groups)).astype(mx.float16),
                )
            )
            mx.eval(made[-1].keys, made[-1].values, made[-1].codes, made[-1].scales)
        return made

    def query(self) -> mx.array:
        """Return a random query token `[1, Hq, 1, D]` bfloat16."""
        made = mx.random.normal((1, self.query_heads, 1, self.head_dim)).astype(mx.bfloat16)
        mx.eval(made)
        return made


Step = Callable[[Case, Layer, mx.array], mx.array]


def bf16_attention(case: Case, layer: Layer, x: mx.array) -> mx.array:
    """MLX's fused attention over the rows that hold a token."""
    n = case.tokens
    return mx.fast.scaled_dot_product_attention(x, layer.keys[..., :n, :], layer.values[..., :n, :], scale=case.scale)


def int4_attention(case: Case, layer: Layer, x: mx.array) -> mx.array:
    """Both passes over the codes; the query is taken as rotated (a step rotates it where it codes the keys)."""
    B, Hq, _, _ = x.shape
    rotated, factors = x.astype(mx.float32), _factors(B, Hq)
    return _attend(case, layer, rotated, factors)


def bf16_step(case: Case, layer: Layer, x: mx.array) -> mx.array:
    """Two slice updates and MLX's attention, as mlx-lm's KVCache does it."""
    at = case.tokens - 1
    keys, values = _new_rows(case, x)
    layer.keys[..., at : at + 1, :] = keys
    layer.values[..., at : at + 1, :] = values
    return bf16_attention(case, layer, x)


def int4_step(case: Case, layer: Layer, x: mx.array) -> mx.array:
    """Code and rotate, update codes and scales, attend."""
    at = case.tokens - 1
    keys, values = _new_rows(case, x)
    codec = case.codec
    codes, scales, rotated, factors = fused.quantize_and_rotate(codec, "cuda", x, keys, values, case.scale)
    layer.codes[..., at : at + 1, :] = codes
    layer.scales[..., at : at + 1, :] = scales
    return _attend(case, layer, rotated, factors)


def chain(case: Case, layers: list[Layer], step: Step, query: mx.array, *, flush: bool = False) -> Callable[[], None]:
    """Return a run of all layers, one after the other; with `flush` the L2 cache is read over before each."""

    def run() -> None:
        x = query
        for layer in layers:
            if flush:
                x = flush_cache(x)
            x = step(case, layer, x)
        mx.eval(x)

    return run


def flush_cache(x: mx.array) -> mx.array:
    """Return a copy of `x`, made by a kernel that reads 256 MiB first. NVIDIA only."""
    kernel = _flush_kernel()
    made: list[mx.array] = kernel(
        inputs=[x, _big()],
        template=[("T", x.dtype)],
        grid=(132 * 4 * 512, 1, 1),
        threadgroup=(512, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    return made[0]


def _attend(case: Case, layer: Layer, rotated: mx.array, factors: mx.array) -> mx.array:
    return fused.attend(case.codec, "cuda", rotated, factors, layer.codes, layer.scales, case.tokens, mx.bfloat16)


def _new_rows(case: Case, x: mx.array) -> tuple[mx.array, mx.array]:
    """A step's keys and values: views of the last layer's result, so that layers cannot overlap."""
    keys = x[:, : case.kv_heads]
    return keys, keys


@functools.cache
def _codec(head_dim: int, group_size: int) -> Codec:
    return make_codec(head_dim, group_size, 0)


@functools.cache
def _factors(batch: int, heads: int) -> mx.array:
    made = mx.full((batch, heads, 1), 0.1, mx.float32)
    mx.eval(made)
    return made


@functools.cache
def _big() -> mx.array:
    made = mx.random.normal((_FLUSH_FLOATS,))
    mx.eval(made)
    return made


@functools.cache
def _flush_kernel() -> Any:
    return mx.fast.cuda_kernel(name="nibble_flush", input_names=["x", "big"], output_names=["out"], source=_FLUSH)
