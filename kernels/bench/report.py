"""What people read: lines as figures come in, tables at the end, and the machine they are of."""

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import mlx.core as mx

from kernels.bench.appending import Append
from kernels.bench.cases import Case
from kernels.bench.ceilings import Ceilings
from kernels.bench.clock import Figure
from kernels.bench.comparison import Pair, Row
from kernels.bench.tuning import Tuned
from kernels.cuts import Cut


def machine(backend: str) -> dict[str, Any]:
    """Return what the figures were measured on: GPU, system, and versions of all that takes part."""
    device = mx.device_info()
    facts = ("device_name", "architecture", "memory_size", "total_memory")
    return {
        "backend": backend,
        "device": {fact: device[fact] for fact in facts if fact in device},
        "os": f"macOS {mac}" if (mac := platform.mac_ver()[0]) else f"{platform.system()} {platform.release()}",
        "versions": {
            name: found for name in ("mlx", "mlx-cuda-12", "mlx-cuda-13", "torch") if (found := _version(name))
        }
        | {"python": platform.python_version()},
    }


def ceilings(found: Ceilings) -> str:
    """Say what the memory can do."""
    return f"ceilings: read {found.read_gb_s:,.0f} GB/s, copy {found.copy_gb_s:,.0f} GB/s (read and written)"


def append(found: Append, copy_ceiling_gb_s: float) -> str:
    """Say what coding many vectors takes."""
    return (
        f"append of {found.vectors:,} vectors, D = {found.head_dim}: {_figure(found.launch_us)} us, "
        f"{found.ns_a_vector:.2f} ns a vector, {found.gb_s:,.0f} GB/s, "
        f"{found.gb_s / copy_ceiling_gb_s:.0%} of the copy ceiling"
    )


def row(found: Row, read_ceiling_gb_s: float) -> str:
    """Say all that was measured of one case: bf16 / int4 = ratio, microseconds a layer, p20 to p80 in brackets."""
    residence = "cold" if found.case.is_cold else "warm"
    bound = ", BOUND BY THE HOST" if found.host_bound else ""
    lines = [
        f"{_heads(found.case)} at {found.case.tokens:,} tokens, chain of {found.layers} layers ({residence})",
        _pair("attention alone", found.attention_us),
    ]
    if found.step_kernels_us is not None:
        lines.append(_pair("step, kernels", found.step_kernels_us))
    lines.append(_pair("step, span", found.step_span_us) + bound)
    lines += [_pair(f"host, {name.replace('_', ' ')}", pair) for name, pair in found.host_us.items()]
    share = found.read_gb_s / read_ceiling_gb_s
    lines.append(f"    {'read':30s}{found.read_gb_s:,.0f} GB/s, {share:.0%} of the ceiling, by {found.read_by}")
    for name, kernels in found.by_kernel_us.items():
        lines.append(f"    {name:30s}" + ", ".join(f"{kernel} {us:.2f}" for kernel, us in kernels.items()))
    return "\n".join(lines)


def ratios(rows: Sequence[Row]) -> str:
    """Return bf16 / int4 of all cases as a table in Markdown."""
    lines = [
        "| heads | tokens | attention alone | step, kernels | step, span | host, build + evaluate |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for found in rows:
        kernels = "" if found.step_kernels_us is None else f"{found.step_kernels_us.ratio:.2f}"
        host_bf16 = sum(found.host_us[name].bf16.median for name in ("build", "evaluate"))
        host_int4 = sum(found.host_us[name].int4.median for name in ("build", "evaluate"))
        span = f"{found.step_span_us.ratio:.2f}" + " (host)" * bool(found.host_bound)
        cells = (
            _heads(found.case),
            f"{found.case.tokens:,}",
            f"{found.attention_us.ratio:.2f}",
            kernels,
            span,
            f"{host_bf16 / host_int4:.2f}",
        )
        lines.append(_table_row(cells))
    return "\n".join(lines)


def tuned(found: Tuned) -> str:
    """Return one case's cuts, the fastest first, with microseconds of a whole step."""
    ranked = sorted(found.us, key=lambda cut: found.us[cut].median)
    times = ", ".join(f"{_cut(cut)} {found.us[cut].median:.1f}{' (the rule)' * (cut == found.rule)}" for cut in ranked)
    refused = "".join(f"\n    refused {_cut(cut)}: {why}" for cut, why in found.refused.items())
    return f"{_heads(found.case)} at {found.case.tokens:,} tokens: {times}{refused}"


def cuts(found: Iterable[Tuned]) -> str:
    """Return the rule's cut and the best one of all cases as a table in Markdown, to be sent in."""
    lines = [
        "A cut: sets x SIMD-groups x blocks; microseconds of a whole int4 step, p20 to p80 in brackets.",
        "",
        "| heads | tokens | by the rule | us | best | us | rule / best |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        cells = (
            _heads(one.case),
            f"{one.case.tokens:,}",
            _cut(one.rule),
            _figure(one.us[one.rule]),
            _cut(one.best),
            _figure(one.us[one.best]),
            f"{one.loss:.2f}",
        )
        lines.append(_table_row(cells))
    return "\n".join(lines)


def _pair(what: str, pair: Pair) -> str:
    return f"    {what:30s}{_figure(pair.bf16)} / {_figure(pair.int4)} = {pair.ratio:.2f}   {pair.measured}"


def _figure(found: Figure) -> str:
    return f"{found.median:.1f} ({found.p20:.1f}-{found.p80:.1f})"


def _heads(case: Case) -> str:
    return f"{case.query_heads},{case.kv_heads},{case.head_dim}"


def _cut(cut: Cut) -> str:
    return f"{cut.sets}x{cut.simds}x{cut.blocks}"


def _table_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
