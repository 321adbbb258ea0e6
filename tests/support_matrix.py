"""Which text architectures of mlx-lm have their KV cache in int4: tries all, and writes the table in docs/models.md.

Run: python -m tests.support_matrix
"""

import importlib.metadata
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import mlx.core as mx
from mlx_lm.utils import MODEL_REMAPPING

from tests.architecture_trial import STEPS, Trial, architectures, module_names, try_architecture

DOCUMENT = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN = "<!-- Written by python -m tests.support_matrix, from here -->"
END = "<!-- to here -->"
MOST_FROM_CODES = 0.02
"""Of int4's distance from float attention over the same codes. Rounding may push a value over a code's edge."""
MOST_ERROR = 0.5
"""Of int4's distance from fp16. Without calibration and with one-hot attention (Gemma 4) it is about 0.4."""


def check(trial: Trial) -> None:
    """Raise AssertionError where int4's logits are not what they have to be."""
    assert trial.from_codes < MOST_FROM_CODES, trial
    assert trial.error < MOST_ERROR, trial


def row(trial: Trial) -> str:
    """Return an architecture's row of the table: only what does not depend on the machine."""
    others = sorted(other for other, module in MODEL_REMAPPING.items() if module == trial.architecture)
    name = f"`{trial.architecture}`" + (f" (and `{'`, `'.join(others)}`)" if others else "")
    if trial.not_run:
        return f"| {name} | not run | | | {trial.not_run} |"
    layers = f"{trial.int4_layers} of {trial.layers}"
    return f"| {name} | {trial.engaged} | {layers} | {trial.ratio:.2f} | {'; '.join(trial.reasons)} |"


def section(trials: list[Trial]) -> str:
    """Return the part of the document that is written by this module."""
    counts = Counter(trial.engaged for trial in trials)
    ordinary = [trial for trial in trials if trial.ordinary]
    engaged = [trial for trial in ordinary if trial.int4_layers]
    wholly = [trial for trial in engaged if not trial.left]
    missed = ", ".join(f"`{t.architecture}`" for t in ordinary if not t.int4_layers)
    partly = ", ".join(f"`{t.architecture}`" for t in engaged if t.left)
    helpers = [name for name in module_names() if name not in {t.architecture for t in trials}]
    lines = [
        BEGIN,
        "",
        _wrapped(
            f"mlx-lm {importlib.metadata.version('mlx-lm')} has {len(trials)} text architectures. Of these "
            f"{counts['yes']} have every layer in int4, {counts['partly']} some, {counts['no']} none; "
            f"{counts['not run']} do not run here with any cache."
        ),
        "",
        _wrapped(
            f"{len(ordinary)} have ordinary attention. int4 is engaged in {len(engaged)} of them "
            f"({100 * len(engaged) / len(ordinary):.0f} %), and in every ordinary attention of {len(wholly)}. "
            f"Not engaged: {missed}. In part: {partly}."
        ),
        "",
        "| architecture | int4 | layers | fp16 bytes / its own | why not the others |",
        "| --- | --- | --- | --- | --- |",
        *map(row, trials),
        "",
        _wrapped(
            f"The other {len(helpers)} modules define no `Model` with `ModelArgs`, so that no folder can name them; "
            f"they are parts of the others: {', '.join(f'`{name}`' for name in helpers)}."
        ),
        "",
        END,
    ]
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False)


def written(document: str) -> str:
    """Return the part of `document` that this module wrote."""
    begin, end = document.index(BEGIN), document.index(END) + len(END)
    return document[begin:end]


def _tried(names: Iterable[str]) -> list[Trial]:
    trials = []
    for name in names:
        trial = try_architecture(name)
        check(trial)
        trials.append(trial)
        mx.clear_cache()
        print(
            f"{name}: {trial.not_run or trial.engaged}, error {trial.error:.3f}, from codes {trial.from_codes:.6f}, "
            f"same token {100 * trial.same_token:.0f} % of {STEPS}"
        )
    return trials


def main() -> int:
    """Try every architecture and write the table."""
    trials = _tried(architectures())
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(document.replace(written(document), section(trials)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
