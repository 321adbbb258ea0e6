"""A quality report to show, as the engine would send it."""

from app.chat.figures import LayerNote, MachineFacts, ModelFacts
from app.chat.quality import QualityReport, VariantQuality, WindowScore, variant_quality

MACHINE = MachineFacts("Apple M4", 1, "macOS 26.1", "gpu", "metal", "0.3", "3.11", "0.32.4", "0.32.2")
REASON = "its rows lose too much in int4"


def variant(name: str, bits: float, kl: tuple[float, ...], agreement: float, group_size: int = 0) -> VariantQuality:
    scores = [WindowScore(12.0 + 10 * x, x, agreement) for x in kl]
    return variant_quality(name, f"what {name} is", bits, scores, group_size)


REPORT = QualityReport(
    model=ModelFacts("Qwen3-4B", "/m", "qwen3", 4, 2, 36, 4096, "float16", 35, (LayerNote((3,), REASON),)),
    machine=MACHINE,
    measured_at="2026-01-01T00:00:00+00:00",
    compute_dtype="float16",
    calibration="calibration",
    text_name="bundled prose",
    text_sha256="ab" * 32,
    context_tokens=1024,
    scored_tokens=512,
    windows=3,
    variants=(
        variant("fp16", 16.0, (0.0, 0.0, 0.0), 1.0),
        variant("plain int4", 4.125, (0.3, 0.4, 0.5), 0.7),
        variant("ours g32", 4.5, (0.01, 0.02, 0.03), 0.9, 32),
        variant("ours g64", 4.25, (0.04, 0.05, 0.06), 0.85, 64),
    ),
    remarks=(f"fp16 in ours, layers 3: {REASON}.", "mlx affine g64 is left out: no whole groups."),
)
