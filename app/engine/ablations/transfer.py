"""Constants from one kind of text on another: `python -m app.engine.ablations.transfer [MODEL FOLDER]`.

The cache is calibrated on prose and on dialogues, and both calibrations are measured on both kinds, on passages that
neither has read, in the way of `python -m app --quality`. Prints KL, and what the other kind's constants cost over the
own kind's.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.chat.options import GROUP_SIZES
from app.chat.quality import Effort
from app.engine.calibration import POSITIONS, Calibration, CalibrationError, calibrate
from app.engine.codings import OurCoding, Variant, deployed_coding
from app.engine.model_folder import OpenModel, open_model
from app.engine.quality import measure
from app.engine.quality_text import QualityText, bundled_texts, dialogues_in
from app.errors import NibbleError
from app.resources import calibration_text_path, starter_model_path

KINDS = ("prose", "chat")
_PARTING = "\n---\n"


@dataclass(frozen=True, slots=True)
class Crossing:
    """One kind of text measured with both calibrations, at one group size. KL in nats.

    "Own" is calibrated on the same kind. Bits a value differ where a calibration keeps layers in fp16.
    """

    measured_on: str
    group_size: int
    own_bits: float
    own_kl: float
    other_bits: float
    other_kl: float

    @property
    def ratio(self) -> float:
        """What the other kind's constants cost: 1 is nothing."""
        return self.other_kl / self.own_kl


def main(arguments: Sequence[str]) -> int:
    """Print the table for the model folder that is named, or for the starter; return 1 where it cannot be had."""
    folder = Path(arguments[0]) if arguments else starter_model_path()
    try:
        opened = open_model(folder, _say)
        found = transfer(opened, Effort(), _say)
    except (NibbleError, CalibrationError) as error:
        print(f"nibble: {error}", file=sys.stderr)
        return 1
    print(*table(opened.facts.name, found), sep="\n")
    return 0


def transfer(opened: OpenModel, effort: Effort, say: Callable[[str], None]) -> tuple[Crossing, ...]:
    """Calibrate on both kinds and measure each on both. Raises NibbleError, CalibrationError."""
    learned, measured = texts(opened)
    calibrations = {}
    for kind in KINDS:
        say(f"calibrating on {kind}")
        calibrations[kind] = _calibrated(opened, learned[kind])
    variants = [
        Variant(f"{kind} g{size}", "as deployed", partial(_coding, calibration, size))
        for kind, calibration in calibrations.items()
        for size in GROUP_SIZES
    ]
    crossings = []
    for index, kind in enumerate(KINDS):
        report = measure(
            opened,
            measured[kind],
            effort,
            variants,
            "two texts",
            lambda f, what: say(f"{f:4.0%} {what}"),
            lambda: False,
        )
        found = {variant.name: variant for variant in report.variants}
        for size in GROUP_SIZES:
            own, other = found[f"{kind} g{size}"], found[f"{KINDS[1 - index]} g{size}"]
            crossings.append(
                Crossing(
                    kind,
                    size,
                    own.bits_per_value,
                    own.kl_nats.overall,
                    other.bits_per_value,
                    other.kl_nats.overall,
                )
            )
    return tuple(crossings)


def texts(opened: OpenModel) -> tuple[dict[str, str], dict[str, QualityText]]:
    """Return by kind what is learned from and what is measured on.

    Prose is learned from the text that every model is calibrated with. Of the bundled dialogues the first half is
    learned from, through the model's template, and the second measured: other conversations from the same templates.
    """
    prose, chat = bundled_texts()
    dialogues = chat.text.split(_PARTING)
    half = len(dialogues) // 2
    shown = dialogues_in(_PARTING.join(dialogues[:half]))
    if opened.tokenizer.has_chat_template:
        turns = [[turn for turn in dialogue if turn["role"] != "system"] for dialogue in shown]
        learned = "".join(opened.tokenizer.apply_chat_template(dialogue, tokenize=False) for dialogue in turns)
    else:
        learned = _PARTING.join(dialogues[:half])
    held_out = QualityText("bundled chat, second half", _PARTING.join(dialogues[half:]), dialogues=True)
    return {"prose": calibration_text_path().read_text(encoding="utf-8"), "chat": learned}, {
        "prose": prose,
        "chat": held_out,
    }


def table(model: str, found: Sequence[Crossing]) -> list[str]:
    """Return the lines of the table."""
    return [
        f"{model}: KL against fp16 in nats, int4 as deployed, with constants from the own and the other kind of text",
        "measured on  group  own: bits      KL  other: bits      KL  ratio",
        *(
            f"{c.measured_on:11}  {c.group_size:5}  {c.own_bits:9.2f}  {c.own_kl:6.4f}  {c.other_bits:11.2f}  "
            f"{c.other_kl:6.4f}  {c.ratio:5.3f}"
            for c in found
        ),
    ]


def _calibrated(opened: OpenModel, text: str) -> Calibration:
    positions = min(POSITIONS, opened.facts.context_limit_tokens)
    return calibrate(opened.model, opened.tokenizer, opened.plan, text, lambda fraction: None, lambda: False, positions)


def _coding(calibration: Calibration, group_size: int, layer: int) -> OurCoding | None:
    return deployed_coding(layer, calibration.layers[layer], group_size)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
