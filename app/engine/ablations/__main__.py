"""The paper's ablations on a model: `python -m app.engine.ablations [--model FOLDER] [--text FILE] [--json FILE]`.

Lambda and rotations are fitted to the bundled calibration text, every layer by itself, and measured on other text as
`python -m app --quality` measures: in the way of decode, the second half of every window. Prints a table.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import mlx.core as mx

from app.chat.plain import to_plain
from app.chat.quality import Effort, QualityReport
from app.engine.ablations.arms import BASELINE, Arm, arms, record
from app.engine.ablations.coding import Coding
from app.engine.codings import Variant
from app.engine.model_folder import OpenModel, open_model
from app.engine.quality import measure
from app.engine.quality_text import QualityText, bundled_texts, own_text, windows_of
from app.errors import NibbleError
from app.paths import replace_text
from app.resources import calibration_text_path, starter_model_path

_FP16 = "fp16"


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One line of the table. Errors are mean squares of coded keys, all layers; differences are against 16 bits."""

    table: str
    name: str
    bits_per_value: float
    training_error: float
    error: float
    """On the measured text."""
    training_reduction: float
    reduction: float
    """Share of the baseline's error that is gone."""
    kl_nats: float
    perplexity_difference: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Ablations:
    """All that was found."""

    figures: tuple[ArmFigures, ...]
    perplexity: float
    """Of the 16-bit cache."""
    notes: tuple[str, ...]
    quality: QualityReport


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ablations that the command line asks for; return 1 where they cannot be run."""
    parser = argparse.ArgumentParser(
        prog="python -m app.engine.ablations", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--model", type=Path, help="a model folder (default: the starter)")
    parser.add_argument("--text", type=Path, help="what to measure on (default: the bundled prose)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--context", type=_positive, default=512, help="tokens of a window (default: 512)")
    parser.add_argument(
        "--windows", type=_positive, default=2, help="windows to learn from and to measure (default: 2)"
    )
    parser.add_argument("--steps", type=_positive, default=100, help="Adam steps a layer and arm (default: 100)")
    arguments = parser.parse_args(argv)
    try:
        text = own_text(arguments.text) if arguments.text else bundled_texts()[0]
        opened = open_model(arguments.model or starter_model_path(), _say)
        found = run(opened, text, Effort(arguments.windows, arguments.context), arguments.steps, _say)
        print("\n".join(table(found)))
        if arguments.json:
            replace_text(arguments.json, json.dumps(to_plain(found), indent=2, allow_nan=False) + "\n")
    except NibbleError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run(opened: OpenModel, text: QualityText, effort: Effort, steps: int, say: Callable[[str], None]) -> Ablations:
    """Fit every arm and measure it on `text`; `say` is told what is being done. Raises NibbleError."""
    if not opened.plan.int4_layers:
        raise NibbleError(f"No layer of {opened.facts.name} can be int4: {opened.plan.reasons[0]}.")
    calibration = QualityText("calibration.txt", calibration_text_path().read_text(encoding="utf-8"))
    training, held_out = (_rows(opened, source, effort) for source in (calibration, text))
    head_dim = next(iter(training.values())).shape[-1]
    chosen = arms(head_dim, steps)
    codings = {}
    for arm in chosen:
        began = time.perf_counter()
        codings[_key(arm)] = {layer: arm.coding(layer, rows) for layer, rows in training.items()}
        say(f"{arm.table}: {arm.name}: fitted in {time.perf_counter() - began:.1f} s")
    variants = [Variant(_FP16, "the model's own cache", lambda layer: None)]
    variants += [Variant(_key(arm), arm.table, codings[_key(arm)].get) for arm in chosen]
    report = measure(
        opened, text, effort, variants, calibration.name, lambda share, what: say(f"{share:4.0%} {what}"), lambda: False
    )
    return Ablations(
        figures=_figures(chosen, codings, training, held_out, report),
        perplexity=report.variants[0].perplexity.overall,
        notes=(
            f"Fitted to {calibration.name}, measured on {text.name}: {effort.windows} windows of "
            f"{effort.context_tokens} tokens each, the second half scored. Spreads are in the JSON.",
            f"Learned: {opened.plan.int4_layers} layers, each by itself, {steps} Adam steps. Keys and values have each "
            "their rotation, which the layer's heads share, and each head its lambda. The best of the way is kept.",
            "Quantizer: the paper's (max / 7, codes -7 to 7, float32 scales). What Nibble deploys is in --quality.",
            "The paper's figures are of Qwen2.5-1.5B, Gemma-3 1B and SmolLM2. They are reproduced only by a run on "
            "these very models, whose weights do not come with Nibble.",
            *report.remarks,
        ),
        quality=report,
    )


def table(found: Ablations) -> list[str]:
    """Return the lines of the table, in the order of the paper's: scales, rotations, what is learned."""
    lines = [f"{found.quality.model.name}: perplexity {found.perplexity:.2f} with its own cache", ""]
    for title, members in groupby(found.figures, lambda line: line.table):
        lines += [
            f"{title:44} bits  K error cut, training / held out     KL nats       dPPL   top-1",
            *(
                f"  {f.name:42} {f.bits_per_value:4.2f} {f.training_reduction:18.1%} / {f.reduction:8.1%} "
                f"{f.kl_nats:13.4f} {f.perplexity_difference:+10.3f} {f.agreement:7.3f}"
                for f in members
            ),
            "",
        ]
    return [*lines, f"K error: mean square of coded keys, all layers, against {BASELINE}.", *found.notes]


def _rows(opened: OpenModel, text: QualityText, effort: Effort) -> dict[int, mx.array]:
    windows = windows_of(text, opened.tokenizer, effort.windows, effort.context_tokens)
    return record(opened, [window[:-1] for window in windows])


def _figures(
    chosen: Sequence[Arm],
    codings: dict[str, dict[int, Coding]],
    training: dict[int, mx.array],
    held_out: dict[int, mx.array],
    report: QualityReport,
) -> tuple[ArmFigures, ...]:
    errors = {key: [key_error(layers, rows) for rows in (training, held_out)] for key, layers in codings.items()}
    baseline = errors[next(_key(arm) for arm in chosen if arm.name == BASELINE)]
    measured = {variant.name: variant for variant in report.variants}
    own = measured[_FP16].perplexity.overall
    return tuple(
        ArmFigures(
            table=arm.table,
            name=arm.name,
            bits_per_value=quality.bits_per_value,
            training_error=errors[_key(arm)][0],
            error=errors[_key(arm)][1],
            training_reduction=1 - errors[_key(arm)][0] / baseline[0],
            reduction=1 - errors[_key(arm)][1] / baseline[1],
            kl_nats=quality.kl_nats.overall,
            perplexity_difference=quality.perplexity.overall - own,
            agreement=quality.agreement.overall,
        )
        for arm in chosen
        if (quality := measured.get(_key(arm))) is not None
    )


def key_error(codings: dict[int, Coding], rows: dict[int, mx.array]) -> float:
    """Return the mean squared error of coded keys, the mean of all layers."""
    errors = [coding.squared_errors(rows[layer])[0] for layer, coding in codings.items()]
    return float(mx.stack(errors).mean())


def _key(arm: Arm) -> str:
    return f"{arm.table}: {arm.name}"


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
