"""What int4 costs a healthy model and one with each of the known diseases: `python -m tests.disease_table [--help]`.

Each time the model is opened anew, made ill (`tests.diseases`), calibrated, and measured against its own 16-bit cache
in the way of `python -m app --quality`. Prints KL in nats and what it is over the healthy model's.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.chat.quality import Effort
from app.engine.calibration import POSITIONS, calibrate
from app.engine.codings import Variant, our_variants, plain_variants
from app.engine.model_folder import open_model
from app.engine.quality import measure
from app.engine.quality_text import QualityText, bundled_texts
from app.resources import calibration_text_path, starter_model_path
from tests.diseases import biased_keys, outliers

HEALTHY = "healthy"
FACTOR = 32.0
"""By which channels are made larger: a power of two, which leaves bfloat16 exact."""
BIAS = 75.0
VARIANTS = (
    "plain int4",
    "SRFT alone g32",
    "ours g32, no smoothing",
    "ours g32, keys not centred",
    "ours g32",
    "ours g64",
)
"""By their names in `app.engine.codings`."""

Disease = Callable[[Any], Any]
DISEASES: dict[str, Disease] = {
    HEALTHY: lambda model: model,
    "outliers": lambda model: outliers(model, FACTOR, _pairs(model)),
    "biased keys, all layers": lambda model: biased_keys(model, BIAS, layers=range(len(model.layers))),
    "biased keys, first and last": lambda model: biased_keys(model, BIAS),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One variant: KL in nats by disease, in the order of `DISEASES`, and the most bits a value that it took."""

    variant: str
    bits: float
    kl: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """KL over the healthy model's."""
        return tuple(kl / self.kl[0] for kl in self.kl)


def main(arguments: Sequence[str]) -> int:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.disease_table", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--model", type=Path, default=starter_model_path(), help="a model folder (default: the starter)"
    )
    parser.add_argument("--chat", action="store_true", help="measure on the bundled dialogues, not on prose")
    parser.add_argument("--windows", type=int, default=3, help="windows that are read (default: 3)")
    parser.add_argument("--context", type=int, default=1024, help="tokens of a window (default: 1,024)")
    chosen = parser.parse_args(arguments)
    text = bundled_texts()[1 if chosen.chat else 0]
    effort = Effort(chosen.windows, chosen.context)
    found = lines(chosen.model, text, effort, lambda what: print(what, file=sys.stderr, flush=True))
    print(f"{chosen.model.name} on {text.name}, {effort.windows} windows of {effort.context_tokens:,} tokens: KL, nats")
    print(*table(found), sep="\n")
    return 0


def lines(folder: Path, text: QualityText, effort: Effort, say: Callable[[str], None]) -> list[Line]:
    """Measure every variant on every disease. Raises NibbleError, CalibrationError."""
    measured = [_measured(folder, disease, text, effort, say) for disease in DISEASES]
    return [
        Line(name, max(found[name][0] for found in measured), tuple(found[name][1] for found in measured))
        for name in VARIANTS
    ]


def table(found: Sequence[Line]) -> list[str]:
    """Return the lines of the table: for each disease KL, and in brackets what it is over the healthy model's."""
    head = ["variant".ljust(28), "bits", *(name.rjust(27) for name in DISEASES)]
    rows = [
        [line.variant.ljust(28), f"{line.bits:.2f}"]
        + [f"{kl:.4f} ({ratio:.2f})".rjust(27) for kl, ratio in zip(line.kl, line.ratios, strict=True)]
        for line in found
    ]
    return ["  ".join(cells) for cells in (head, *rows)]


def _measured(
    folder: Path, disease: str, text: QualityText, effort: Effort, say: Callable[[str], None]
) -> dict[str, tuple[float, float]]:
    """Return bits a value and KL of each variant."""
    opened = open_model(folder, lambda step: say(f"{disease}: {step}"))
    DISEASES[disease](opened.model)
    positions = min(POSITIONS, opened.facts.context_limit_tokens)
    learned = calibration_text_path().read_text(encoding="utf-8")
    calibration = calibrate(
        opened.model, opened.tokenizer, opened.plan, learned, lambda share: None, lambda: False, positions
    )
    known = {v.name: v for v in (*plain_variants(), *our_variants(calibration.layers))}
    variants: list[Variant] = [known[name] for name in VARIANTS]

    def report(share: float, what: str) -> None:
        say(f"{disease}: {share:4.0%} {what}")

    found = measure(opened, text, effort, variants, calibration.source, report, lambda: False)
    return {v.name: (v.bits_per_value, v.kl_nats.overall) for v in found.variants}


def _pairs(model: Any) -> tuple[int, ...]:
    """Return four RoPE pairs, from fast to slow."""
    attention = model.layers[0].self_attn
    half = int(attention.k_proj["weight"].shape[0]) // int(attention.n_kv_heads) // 2
    return tuple(half * share // 64 for share in (5, 20, 40, 60))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
