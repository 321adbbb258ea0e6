"""What must hold before anything is timed: the fused kernels against the reference, on this machine."""

from collections.abc import Callable
from typing import Any, TypeVar

import mlx.core as mx

from kernels import fused, reference
from kernels.bench.cases import SHAPES, Case

T = TypeVar("T")

TOKENS = 1000
MOST_DIFFERING_CODES = 1e-4
MOST_RELATIVE_ERROR = 2.5e-3
"""Against float32 on the same bytes: half2 products, and the rounding of the result to bfloat16."""


def check(backend: str) -> list[str]:
    """Return one line for every check that failed."""
    failed = []
    # MLX compiles every set of sizes for seconds: the larger group is checked on one shape.
    for group_size, shapes in ((32, SHAPES), (64, SHAPES[2:3])):
        for query_heads, kv_heads, head_dim in shapes:
            case = Case(query_heads, kv_heads, head_dim, TOKENS, group_size)
            codec = case.codec
            rows = mx.random.normal((2, 1, kv_heads, case.capacity, head_dim)).astype(mx.bfloat16)
            codes, scales = fused.quantize(codec, backend, rows[0], rows[1])
            right_codes, right_scales = _on_cpu(reference.quantize, codec, rows)
            differing = float((_nibbles(codes) != _nibbles(right_codes)).mean())
            if differing > MOST_DIFFERING_CODES:
                failed.append(f"append {case}: {differing:.1e} of the codes differ")
            same = float((scales == right_scales).mean())
            if same < 0.999:
                failed.append(f"append {case}: {1 - same:.1e} of the scales differ")
            query = case.query()
            _, _, rotated, factors = fused.quantize_and_rotate(
                codec, backend, query, rows[0, :, :, :1], rows[1, :, :, :1], case.scale
            )
            # Rows after the tokens must not be seen: their scales are NaN.
            stale = (mx.arange(case.capacity) >= TOKENS)[:, None]
            poisoned = mx.where(stale, mx.array(float("nan"), mx.float16), right_scales)
            got = fused.attend(codec, backend, rotated, factors, right_codes, poisoned, TOKENS, mx.bfloat16)
            right = _on_cpu(
                reference.attend,
                codec,
                query.astype(mx.float32),
                right_codes[..., :TOKENS, :],
                right_scales[..., :TOKENS, :],
                case.scale,
                None,
            )
            error = float(mx.linalg.norm(got.astype(mx.float32) - right) / mx.linalg.norm(right))
            if not error < MOST_RELATIVE_ERROR:
                failed.append(f"attention {case}: relative error {error:.2e}")
            expanded = fused.dequantize(codec, backend, right_codes, right_scales, mx.float32)
            exact = mx.stack(list(_on_cpu(reference.dequantize, codec, right_codes, right_scales, mx.float32)))
            worst = float(mx.abs(expanded - exact).max())
            if not worst < 1e-4:
                failed.append(f"dequantize {case}: off by {worst:.1e}")
    return failed


def _on_cpu(operation: Callable[..., T], *arguments: Any) -> T:
    """Run the reference on the CPU: MLX's CUDA backend multiplies float32 matrices in tf32."""
    with mx.stream(mx.cpu):
        result = operation(*arguments)
        mx.eval(result)
    return result


def _nibbles(codes: mx.array) -> mx.array:
    return (codes[..., None] >> mx.arange(0, 32, 4, dtype=mx.uint32)) & 15
