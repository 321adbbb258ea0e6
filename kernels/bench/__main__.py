"""`python -m kernels.bench`: the fused kernels beside MLX's own bf16, on the GPU that is here, Apple's or NVIDIA's.

Checks first: nothing is timed on wrong results. Then the memory's ceilings, the append of many vectors, and for every
shape and length what `kernels.bench.comparison` describes, bf16 and int4 in turns. With `--tune` instead: every cut of
the step into threadgroups, beside what the rule gives; on a Mac, please send in what it prints. Last comes one line of
JSON with the machine and versions. Figures are medians with their 20th and 80th percentile.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from kernels import dispatch
from kernels.bench import appending, ceilings, check, report
from kernels.bench.cases import LENGTHS, SHAPES, Case
from kernels.bench.clock import Clock
from kernels.bench.comparison import compare
from kernels.bench.tuning import tune
from kernels.layout import GROUP_SIZES


class FailedCheckError(Exception):
    """A kernel computes something else than the reference."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return 1 where there is no GPU or a check failed."""
    options = _parse(arguments)
    backend = dispatch.backend()
    if backend == "cpu":
        print("There is no GPU here: nothing to check or to time.", file=sys.stderr)
        return 1
    try:
        if options.check:
            _print_all(check.checks(backend))
            return 0
        measured = _tune(backend, options) if options.tune else _measure(backend, options)
    except FailedCheckError:
        print("A check failed: nothing is timed on wrong results.", file=sys.stderr)
        return 1
    line = json.dumps(_rounded({"machine": report.machine(backend), "rounds": options.rounds, **measured}))
    print(line)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kernels.bench", description=__doc__.partition("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="check only, time nothing")
    what.add_argument("--tune", action="store_true", help="time every cut of the step into threadgroups")
    parser.add_argument("--shapes", type=int, nargs="+", default=range(len(SHAPES)), help=f"indices into {SHAPES}")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="cached tokens, the new one included")
    parser.add_argument("--group-size", type=int, choices=GROUP_SIZES, default=GROUP_SIZES[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each figure is taken (default: 5)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no further case after this time")
    parser.add_argument("--out", type=Path, help="write the line of JSON there too")
    return parser.parse_args(arguments)


def _measure(backend: str, options: argparse.Namespace) -> dict[str, Any]:
    deadline = time.monotonic() + options.seconds
    _print_all(check.checks(backend))
    clock = Clock()
    limits = ceilings.measure(clock, backend)
    print(report.ceilings(limits), flush=True)
    appends = []
    for head_dim in appending.HEAD_SIZES:
        appends.append(appending.measure(clock, backend, head_dim, options.group_size, options.rounds))
        print(report.append(appends[-1], limits.copy_gb_s), flush=True)
    rows = []
    for case in _checked_cases(backend, options, deadline):
        rows.append(compare(clock, case, options.rounds))
        print(report.row(rows[-1], limits.read_gb_s), flush=True)
    print(report.ratios(rows))
    return {
        "benchmark": "kernels",
        "read_ceiling_gb_s": limits.read_gb_s,
        "copy_ceiling_gb_s": limits.copy_gb_s,
        "append": [found.plain(limits.copy_gb_s) for found in appends],
        "rows": [row.plain(limits.read_gb_s) for row in rows],
    }


def _tune(backend: str, options: argparse.Namespace) -> dict[str, Any]:
    deadline = time.monotonic() + options.seconds
    clock = Clock()
    found = []
    for case in _checked_cases(backend, options, deadline):
        found.append(tune(clock, backend, case, options.rounds))
        print(report.tuned(found[-1]), flush=True)
    print(report.cuts(found))
    return {"benchmark": "cuts", "cases": [tuned.plain() for tuned in found]}


def _checked_cases(backend: str, options: argparse.Namespace, deadline: float) -> Iterator[Case]:
    """Yield what is to be timed, each checked at its own length, in the very cut that its figures will be of."""
    for tokens in options.lengths:
        for index in options.shapes:
            if time.monotonic() > deadline:
                print("out of time", flush=True)
                return
            case = Case(*SHAPES[index], tokens, options.group_size)
            findings = list(check.step(backend, case))
            _print_all([finding for finding in findings if not finding.passed] or findings[-1:])
            yield case
            mx.clear_cache()


def _rounded(value: Any) -> Any:
    """Return the same with every float cut to four digits that count."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def _print_all(findings: Iterable[check.Finding]) -> None:
    """Print findings as they come; raises FailedCheckError at the end where one failed."""
    passed = True
    for finding in findings:
        print(finding, flush=True)
        passed = passed and finding.passed
    if not passed:
        raise FailedCheckError


if __name__ == "__main__":
    sys.exit(main())
