"""Which cut into threadgroups is fastest on this GPU: every possible one, beside what `kernels.cuts` chooses."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import mlx.core as mx

from kernels.bench.cases import Case, Layer, chain, int4_step
from kernels.bench.clock import Clock, Figure, figure
from kernels.cuts import Cut, cut_for, possible_cuts

_FLUSHED_LAYERS = 8
_MOST_RELATIVE_ERROR = 1e-2
"""Two cuts sum in different orders; more apart than this, one of them computes something else."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was found for one case: microseconds a layer of every cut that works, and why others do not."""

    case: Case
    rule: Cut
    us: Mapping[Cut, Figure]
    refused: Mapping[Cut, str]

    @property
    def best(self) -> Cut:
        """The fastest cut; the rule's own where none is faster."""
        return min(self.us, key=lambda cut: (self.us[cut].median, cut != self.rule))

    @property
    def loss(self) -> float:
        """How many times longer the rule's cut takes than the best."""
        return self.us[self.rule].median / self.us[self.best].median

    def plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            **asdict(self.case),
            "rule": asdict(self.rule),
            "best": asdict(self.best),
            "rule_over_best": self.loss,
            "tried": [{**asdict(cut), "us": asdict(us)} for cut, us in self.us.items()],
            "refused": [{**asdict(cut), "why": why} for cut, why in self.refused.items()],
        }


def tune(clock: Clock, backend: str, case: Case, rounds: int) -> Tuned:
    """Time one case's whole int4 step in every cut: its kernels added up, L2 flushed, or a chain by the wall clock."""
    vectors = case.query_heads // case.kv_heads
    rule = cut_for(backend, vectors, case.kv_heads, case.head_dim, case.tokens)
    layers, query = case.layers(_FLUSHED_LAYERS if clock.has_kernels else case.layer_count), case.query()
    right = int4_step(case, layers[0], query, rule).astype(mx.float32)
    refused: dict[Cut, str] = {}
    runs = {}
    for cut in dict.fromkeys([rule, *possible_cuts(vectors, case.head_dim, case.tokens)]):
        why = _reason_against(case, layers[0], query, cut, right)
        if why:
            refused[cut] = why
        else:
            step = partial(int4_step, cut=cut)
            runs[cut] = chain(case, layers, step, query, flush=clock.has_kernels)
    timings = clock.compare(runs, rounds)
    us = {cut: figure([t.busy_us / len(layers) for t in timings[cut]]) for cut in runs}
    return Tuned(case, rule, us, refused)


def _reason_against(case: Case, layer: Layer, query: mx.array, cut: Cut, right: mx.array) -> str:
    """Return why a cut cannot be used here, or "": a driver may refuse it, for want of registers say."""
    try:
        got = int4_step(case, layer, query, cut).astype(mx.float32)
        error = float(mx.linalg.norm(got - right) / mx.linalg.norm(right))
    except (RuntimeError, ValueError) as failure:
        return str(failure)
    return "" if error < _MOST_RELATIVE_ERROR else f"relative error {error:.1e}"
