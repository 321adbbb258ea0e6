"""`python -m kernels.bench`: needs an NVIDIA GPU for timing today; `--check` alone runs on Metal too.

Checks first: nothing is timed on wrong results. Then the read ceiling, then for every shape and length bf16 and int4 in
turns: attention with the L2 cache flushed (sum of kernel times), and the whole decode step as a chain of dependent
layers (first start to last end, a layer). Prints a table and one line of JSON with the machine and versions.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlx.core as mx

from kernels import dispatch, fused
from kernels.bench.cases import (
    LENGTHS,
    SHAPES,
    Case,
    bf16_attention,
    bf16_step,
    chain,
    flush_cache,
    int4_attention,
    int4_step,
)
from kernels.bench.check import check
from kernels.bench.clock import Clock

_COLD_LAYERS = 4
_CHAIN_BYTES = 3e9


def main() -> int:
    """Run what the command line asks for; return 1 where a check failed."""
    parser = argparse.ArgumentParser(prog="python -m kernels.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="check only, time nothing")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds of every figure (default: 3)")
    parser.add_argument("--group-size", type=int, choices=(32, 64), default=32)
    parser.add_argument("--shapes", type=int, nargs="*", help="indices of the shapes to time (default: all)")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--seconds", type=float, default=540, help="stop before another figure after this time")
    parser.add_argument("--out", type=Path, help="write the JSON line there too")
    arguments = parser.parse_args()
    begun = time.monotonic()
    backend = dispatch.backend()
    if backend == "cpu":
        print("There is no GPU here: nothing to check or to time.", file=sys.stderr)
        return 1
    failed = check(backend)
    print("\n".join(failed) or f"checks passed ({time.monotonic() - begun:.0f} s)", flush=True)
    if failed or arguments.check:
        return int(bool(failed))
    clock = Clock()
    if not clock.has_kernels:
        print("Timing needs CUPTI through PyTorch, which is not here.", file=sys.stderr)
        return 1
    ceiling = _read_ceiling(clock)
    print(f"read ceiling {ceiling:.0f} GB/s", flush=True)
    rows = []
    shapes = [SHAPES[i] for i in arguments.shapes] if arguments.shapes else SHAPES
    for tokens in arguments.lengths:
        for shape in shapes:
            if time.monotonic() - begun > arguments.seconds:
                print("out of time", flush=True)
                break
            rows.append(_measure(clock, Case(*shape, tokens, arguments.group_size), arguments.rounds, ceiling))
    line = json.dumps(
        {"benchmark": "kernels", "read_ceiling_gb_s": ceiling, "machine": _machine(backend), "rows": rows}
    )
    print(line)
    if arguments.out:
        arguments.out.write_text(line + "\n", encoding="utf-8")
    return 0


def _measure(clock: Clock, case: Case, rounds: int, ceiling: float) -> dict[str, Any]:
    layer_bytes = 4 * case.kv_heads * case.capacity * case.head_dim
    count = int(max(6, min(28, _CHAIN_BYTES / layer_bytes)))
    layers, query = case.layers(count), case.query()
    cold: dict[str, list[float]] = {"bf16": [], "int4": []}
    span: dict[str, list[float]] = {"bf16": [], "int4": []}
    kernels: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, step in (("bf16", bf16_attention), ("int4", int4_attention)):
            found = clock.by_kernel_us(chain(case, layers[:_COLD_LAYERS], step, query, flush=True), 3)
            parts = {k: statistics.median(v) * len(v) / (3 * _COLD_LAYERS) for k, v in found.items() if _counts(k)}
            cold[name].append(sum(parts.values()))
            kernels[name] = {_short(k): round(v, 2) for k, v in parts.items()}
        for name, step in (("bf16", bf16_step), ("int4", int4_step)):
            span[name].append(clock.span_us(chain(case, layers, step, query), 2) / count)
    step_kernels = {}
    for name, step in (("bf16", bf16_step), ("int4", int4_step)):
        found = clock.by_kernel_us(chain(case, layers, step, query), 2)
        step_kernels[name] = {
            _short(k): round(statistics.median(v) * len(v) / (2 * count), 2) for k, v in found.items()
        }
    busy = {name: sum(parts.values()) for name, parts in step_kernels.items()}
    split_us = kernels["int4"].get("attend_split", float("nan"))
    read = 2 * case.kv_heads * case.tokens * case.codec.layout.row_bytes / 1e3 / split_us
    row = {
        "query_heads": case.query_heads,
        "kv_heads": case.kv_heads,
        "head_dim": case.head_dim,
        "tokens": case.tokens,
        "group_size": case.group_size,
        "attention_us": {name: _quantiles(v) for name, v in cold.items()},
        "attention_ratio": statistics.median(cold["bf16"]) / statistics.median(cold["int4"]),
        "step_us": {name: _quantiles(v) for name, v in span.items()},
        "step_ratio": statistics.median(span["bf16"]) / statistics.median(span["int4"]),
        "step_kernels_ratio": busy["bf16"] / busy["int4"],
        "split_read_share_of_ceiling": read / ceiling,
        "kernels_us": kernels,
        "step_kernels_us": step_kernels,
    }
    split = fused.split_for(case.query_heads, case.kv_heads, case.head_dim, case.tokens)
    (bf16, int4), (bf16_step_us, int4_step_us) = ([statistics.median(v) for v in d.values()] for d in (cold, span))
    print(
        f"{case.query_heads:3d},{case.kv_heads},{case.head_dim:3d} {case.tokens:6d}  "
        f"attention {bf16:6.1f} / {int4:5.1f} = {row['attention_ratio']:.2f}   "
        f"step kernels {busy['bf16']:5.1f} / {busy['int4']:5.1f} = {row['step_kernels_ratio']:.2f}   "
        f"step {bf16_step_us:6.1f} / {int4_step_us:5.1f} = {row['step_ratio']:.2f}   "
        f"read {row['split_read_share_of_ceiling']:.0%}  {split.sets}x{split.tile}x{split.blocks}  "
        f"{kernels['int4']} {step_kernels}",
        flush=True,
    )
    return row


def _counts(kernel: str) -> bool:
    """Neither the flush, nor the cast that stands for a rotated query."""
    return "nibble_flush" not in kernel and "copy" not in kernel.lower() and "Copy" not in kernel


def _short(kernel: str) -> str:
    for name in ("attend_split", "attend_merge", "append_and_rotate", "append", "flush"):
        if f"nibble_{name}" in kernel:
            return name
    return kernel[:40]


def _quantiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    fifths = statistics.quantiles(values, n=5, method="inclusive")
    return fifths[0], statistics.median(values), fifths[3]


def _read_ceiling(clock: Clock) -> float:
    """Return GB/s of a kernel that reads 256 MiB and writes next to nothing."""
    x = mx.zeros((32,))
    found = clock.by_kernel_us(lambda: mx.eval(flush_cache(x)), 10)
    (times,) = (v for k, v in found.items() if "nibble_flush" in k)
    return 256 * 2**20 / 1e3 / statistics.median(times)


def _machine(backend: str) -> dict[str, Any]:
    try:
        mlx_version = version("mlx")
    except PackageNotFoundError:
        mlx_version = str(getattr(mx, "__version__", ""))
    return {
        "backend": backend,
        "device": {k: v for k, v in mx.device_info().items() if k in ("device_name", "architecture", "total_memory")},
        "mlx_version": mlx_version,
        "python_version": platform.python_version(),
        "os": f"{platform.system()} {platform.release()}",
    }


if __name__ == "__main__":
    sys.exit(main())
