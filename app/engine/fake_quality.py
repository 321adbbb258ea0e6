"""Quality as the fake engine measures it: nothing is measured, but the text is read and the figures look like some.

A word is a token. The figures follow from the text and from the number of a window alone, so that they can be repeated.
"""

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime

from app.chat.figures import MachineFacts, ModelFacts
from app.chat.options import GROUP_SIZES
from app.chat.quality import QualityReport, VariantQuality, WindowScore, variant_quality
from app.engine.fake_script import Script
from app.engine.protocol import Emit, Measure, Measured, Measuring
from app.engine.quality_text import QualityText, text_of
from app.errors import NibbleError

PERPLEXITY = 14.2
_VARIANTS = (
    ("fp16", "the model's own 16-bit cache once more: KL must be 0", 16.0, 0.0),
    ("plain int4", "one scale a token and head, no rotation", 4.25, 0.31),
    ("mlx affine g64", "mlx-lm's own 4-bit cache", 4.5, 0.098),
    ("mlx affine g32", "mlx-lm's own 4-bit cache", 5.0, 0.064),
    ("SRFT alone g32", "the paper's rotation and codes -7 to 7, no calibration", 4.5, 0.089),
    ("ours g32, uncalibrated", "as it serves until calibration is done", 4.5, 0.068),
    ("ours g32", "as deployed", 4.5, 0.047),
    ("ours g64", "as deployed", 4.25, 0.061),
    ("ours, one scale a row", "in place of groups", 4.25, 0.061),
    ("ours g32, no choice of scales", "the largest value of a group is always exact", 4.5, 0.051),
    ("ours g32, no code -8", "nor a choice of scales: codes -7 to 7", 4.5, 0.058),
    ("ours g32, no rotation", "everything else as deployed", 4.5, 0.072),
    ("ours g32, no smoothing", "keys not divided by factors", 4.5, 0.051),
    ("ours g32, keys not centred", "mu of keys 0", 4.5, 0.066),
    ("ours g32, values not centred", "mu of values 0", 4.5, 0.049),
)
"""Name, description, bits a value, and about what KL such a cache comes to."""


def measure_fake(
    request: Measure, model: ModelFacts, machine: MachineFacts, emit: Emit, cancelled: Callable[[], bool]
) -> None:
    """Answer `request`. Raises NibbleError, also when stopped."""
    text, effort = text_of(request.text), request.effort
    script = Script.of(f"{model.name} {request.text.path}")
    words, needed = len(text.text.split()), effort.windows * effort.context_tokens + 1
    if words < needed:
        raise NibbleError(
            f"The text {text.name} has {words:,} tokens of this model; {effort.windows} windows of "
            f"{effort.context_tokens:,} need {needed:,}.",
            "Choose a longer text, fewer windows or a shorter context.",
        )
    passes = ["the model's own cache", *(name for name, _, _, _ in _VARIANTS)]
    for index in range(effort.windows * len(passes)):
        if cancelled():
            raise NibbleError("Measuring was stopped.")
        window, step = divmod(index, len(passes))
        where = f"window {window + 1} of {effort.windows}, {passes[step]}"
        emit(Measuring(request.request_id, index / (effort.windows * len(passes)), where))
        script.pause("measure-ms", 0)
        if index:
            script.reach("measure", emit)
    report = QualityReport(
        model=model,
        machine=machine,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        compute_dtype=model.compute_dtype,
        calibration="calibration",
        text_name=text.name,
        text_sha256=text.sha256,
        context_tokens=effort.context_tokens,
        scored_tokens=effort.scored_tokens,
        windows=effort.windows,
        variants=tuple(_quality(text, effort.windows, *variant) for variant in _VARIANTS),
    )
    emit(Measured(request.request_id, report))


def _quality(text: QualityText, windows: int, name: str, description: str, bits: float, kl: float) -> VariantQuality:
    scores = []
    for window in range(windows):
        chance = random.Random(f"{text.sha256} {window}")
        here = kl * chance.uniform(0.8, 1.25)
        perplexity = PERPLEXITY * chance.uniform(0.9, 1.1) * math.exp(0.4 * here)
        scores.append(WindowScore(perplexity, here, 1 - 0.45 * math.sqrt(here)))
    group_size = next((size for size in GROUP_SIZES if name == f"ours g{size}"), 0)
    return variant_quality(name, description, bits, scores, group_size)
