"""Speed and memory of a whole model, int4 against fp16: `python -m app.engine.bench [--model FOLDER | --shapes NAME]`.

At every context both caches are filled with the same tokens. Then the two modes take turns, `--tokens` greedy steps
each, the order turned round every round. Prints, for every context, medians with their 20th and 80th percentile, GPU
time where CUPTI is there to tell it, peak memory and cache bytes, and last one line of JSON with machine and versions.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.generate import wired_limit

from app.chat.figures import LayerNote
from app.chat.options import GROUP_SIZES
from app.chat.plain import to_plain
from app.engine.bench.figures import ContextFigures, ModeFigures
from app.engine.bench.measurement import Effort, check_comparable, measure, warm_up
from app.engine.bench.random_model import QUANTIZED_BITS, SHAPES, random_model
from app.engine.machine import machine_facts
from app.engine.model_folder import OpenModel, open_model
from app.errors import NibbleError
from app.resources import starter_model_path
from kernels import dispatch
from kernels.bench.clock import Clock

_HEADER = (
    "context  cache  ms a token (p20 to p80)      tokens/s  build + submit   GPU ms  prefill tokens/s  "
    "peak MB in prefill / decode   KV MB"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that the command line asks for; return 1 where there is nothing to compare."""
    parser = _parser(on_gpu=dispatch.backend() != "cpu")
    arguments = parser.parse_args(argv)
    if arguments.model and arguments.bits:
        parser.error("--bits goes with --shapes: a model folder has its own")
    if arguments.out and not arguments.out.parent.is_dir():
        parser.error(f"there is no folder {arguments.out.parent}")
    effort = Effort(
        group_size=arguments.group_size,
        chunk_tokens=arguments.chunk,
        prefills=arguments.prefills,
        tokens=arguments.tokens,
        rounds=arguments.rounds,
        warm_up_s=arguments.warm_up,
    )
    try:
        print(json.dumps(run(_opened(arguments), arguments.contexts, effort, arguments.out)))
    except NibbleError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run(opened: OpenModel, contexts: Sequence[int], effort: Effort, out: Path | None) -> dict[str, Any]:
    """Measure every context, print its rows, and return what the JSON line holds; `out` is written after each one.

    Raises NibbleError for a model that cannot be int4.
    """
    check_comparable(opened)
    facts = opened.facts
    print(f"{facts.name}, {facts.weight_bytes / 1e6:,.0f} MB of weights. {' '.join(facts.remarks)}".rstrip())
    for note in facts.notes:
        print(_note(note))
    clock = Clock()
    report: dict[str, Any] = {
        "benchmark": "model",
        "model": to_plain(facts),
        "effort": to_plain(effort),
        "machine": {**to_plain(machine_facts()), "processor": str(mx.device_info().get("device_name", ""))},
        "contexts": [],
    }
    with wired_limit(opened.model):
        warm_up(opened, effort)
        print(_HEADER)
        for context in contexts:
            figures = measure(opened, context, effort, clock)
            print(rows(figures), flush=True)
            report["contexts"].append(to_plain(figures))
            if out is not None:
                out.write_text(json.dumps(report) + "\n", encoding="utf-8")
    return report


def rows(figures: ContextFigures) -> str:
    """Return the lines of the table for one context."""
    low, high = figures.round_speed.p20, figures.round_speed.p80
    gpu = "" if figures.gpu_speed is None else f", of the GPU's work {figures.gpu_speed:.2f}"
    return "\n".join(
        [
            _row(figures.context_tokens, "fp16", figures.fp16),
            _row(figures.context_tokens, "int4", figures.int4),
            f"         int4's speed / fp16's: {figures.speed:.2f} ({low:.2f} to {high:.2f}){gpu}, of prefill "
            f"{figures.prefill_speed:.2f}; logits differ by {figures.logits_difference:.1%}; {figures.int4.cache.path}",
        ]
    )


def _row(context: int, name: str, mode: ModeFigures) -> str:
    time, memory = mode.decode_ms, (mode.prefill_peak_bytes / 1e6, mode.decode_peak_bytes / 1e6)
    spread = f"({time.p20:.3f} to {time.p80:.3f})"
    gpu = f"{mode.gpu.busy_ms:.3f}" if mode.gpu else "-"
    return (
        f"{context:7d}  {name}   {time.median:8.3f} {spread:20} {1e3 / time.median:9.1f}  "
        f"{mode.build_ms:6.3f} + {mode.submit_ms:6.3f} {gpu:>7} {mode.prefill_tokens_per_s:17,.0f}  "
        f"{memory[0]:14,.1f} / {memory[1]:10,.1f} {mode.cache.allocated_bytes / 1e6:7,.2f}"
    )


def _note(note: LayerNote) -> str:
    return f"fp16 in both modes, layers {', '.join(map(str, note.layers))}: {note.reason}"


def _opened(arguments: argparse.Namespace) -> OpenModel:
    if arguments.shapes is None:
        return open_model(arguments.model or starter_model_path(), lambda _: None)
    bits = arguments.bits or (16 if dispatch.backend() == "cpu" else QUANTIZED_BITS)
    return random_model(arguments.shapes, SHAPES[arguments.shapes], bits)


def _parser(on_gpu: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.engine.bench", description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", type=Path, help="a model folder (default: the starter)")
    what.add_argument("--shapes", choices=tuple(SHAPES), help="random weights of this model's shapes")
    add = parser.add_argument
    add("--bits", type=int, choices=(QUANTIZED_BITS, 16), help="of random weights (default: 4 on a GPU, else 16)")
    add("--contexts", type=_positive, nargs="+", default=[2048], help="tokens in the cache (default: 2048)")
    add("--tokens", type=_positive, default=16, help="steps of one mode in one round (default: 16)")
    add("--rounds", type=_positive, default=12, help="rounds (default: 12)")
    add("--group-size", type=int, choices=GROUP_SIZES, default=GROUP_SIZES[0])
    add(
        "--chunk",
        type=_positive,
        default=2048 if on_gpu else 256,
        help="tokens of a prefill chunk (default here: %(default)s)",
    )
    add(
        "--prefills",
        type=_positive,
        default=2 if on_gpu else 1,
        help="of each mode; the last is timed (default here: %(default)s)",
    )
    add("--warm-up", type=float, default=1.0, help="seconds of decoding before a context is timed (default: 1)")
    add("--out", type=Path, help="write the JSON there too, after every context")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
