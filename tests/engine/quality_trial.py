"""A short measurement of quality, for the tests that look at what it says."""

from app.chat.quality import Effort, QualityReport
from app.engine.codings import Variant
from app.engine.model_folder import OpenModel
from app.engine.quality import measure
from app.engine.quality_text import QualityText

EFFORT = Effort(windows=3, context_tokens=96)
TEXT = QualityText("letters", "The quick brown fox jumps over the lazy dog, and nobody knows why it should. " * 8)


def silent(fraction: float, what: str) -> None:
    pass


def never() -> bool:
    return False


def measured(opened: OpenModel, variants: list[Variant], effort: Effort = EFFORT) -> QualityReport:
    return measure(opened, TEXT, effort, variants, "a test", silent, never)


def kl_of(report: QualityReport) -> dict[str, float]:
    return {v.name: v.kl_nats.overall for v in report.variants}
