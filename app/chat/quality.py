"""What a cache costs in quality: what to measure, and perplexity, KL and agreement as values, CSV and JSON."""

import csv
import io
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.chat.figures import MachineFacts, ModelFacts
from app.chat.plain import from_plain, to_plain

FEW_WINDOWS = 5
"""With fewer windows than this a spread is from least to most, else from the 20th to the 80th percentile."""


class TextKind(StrEnum):
    """What quality is measured on."""

    PROSE = "prose"
    CHAT = "chat"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class TextSource:
    """One of the bundled texts, or a file in UTF-8."""

    kind: TextKind = TextKind.PROSE
    path: str = ""
    """Of the file; "" for the bundled texts."""


MOST_PASSES = 17
"""How often a window is read at most: with the model's own cache, and with every variant."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much text is read: windows of `context_tokens`, the second half of each scored."""

    windows: int = 3
    context_tokens: int = 1024

    @property
    def read_tokens(self) -> int:
        """Tokens that are read at most, over all passes."""
        return self.windows * self.context_tokens * MOST_PASSES

    @property
    def scored_tokens(self) -> int:
        """Tokens of a window that are scored."""
        return self.context_tokens - self.context_tokens // 2


@dataclass(frozen=True, slots=True)
class WindowScore:
    """One variant on one window of text, over its scored tokens."""

    perplexity: float
    """exp of the mean negative log likelihood of the text's next tokens."""
    kl_nats: float
    """Mean of KL(fp16 || variant) over the next token's distribution."""
    agreement: float
    """Share of tokens whose likeliest next token is fp16's."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all scored tokens, and how far it differs from window to window."""

    overall: float
    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class VariantQuality:
    """One variant on one text."""

    name: str
    description: str
    bits_per_value: float
    """Of all layers that can be int4 together; those that the variant leaves in fp16 count 16."""
    perplexity: Spread
    kl_nats: Spread
    agreement: Spread
    windows: tuple[WindowScore, ...]
    deployed_group_size: int = 0
    """Group size of the chats whose int4 cache this is; 0 for what Nibble does not deploy."""


@dataclass(frozen=True, slots=True)
class QualityReport:
    """One text measured with every variant."""

    model: ModelFacts
    machine: MachineFacts
    measured_at: str
    """UTC, ISO 8601."""
    compute_dtype: str
    """What the model computed in."""
    calibration: str
    """Where the constants of ours come from."""
    text_name: str
    text_sha256: str
    """Of the text as read, in UTF-8."""
    context_tokens: int
    """Length of a window. A window begins with an empty cache."""
    scored_tokens: int
    """Of each window: its second half, so that every scored token has at least half a window before it."""
    windows: int
    variants: tuple[VariantQuality, ...]
    remarks: tuple[str, ...] = ()
    """Variants that do not exist for this model, layers that stay fp16."""

    @property
    def spread_kind(self) -> str:
        """What `low` and `high` of each spread are."""
        return "min to max" if self.windows < FEW_WINDOWS else "p20 to p80"


def variant_quality(
    name: str, description: str, bits: float, windows: Sequence[WindowScore], deployed_group_size: int = 0
) -> VariantQuality:
    """Return a variant's figures from its windows, which must all have the same number of scored tokens."""
    logs = statistics.fmean(math.log(w.perplexity) for w in windows)
    kl, agreement = [w.kl_nats for w in windows], [w.agreement for w in windows]
    return VariantQuality(
        name=name,
        description=description,
        bits_per_value=bits,
        perplexity=_spread([w.perplexity for w in windows], math.exp(logs)),
        kl_nats=_spread(kl, statistics.fmean(kl)),
        agreement=_spread(agreement, statistics.fmean(agreement)),
        windows=tuple(windows),
        deployed_group_size=deployed_group_size,
    )


def _spread(values: Sequence[float], overall: float) -> Spread:
    if len(values) < FEW_WINDOWS:
        low, high = min(values), max(values)
    else:
        fifths = statistics.quantiles(values, n=5, method="inclusive")
        low, high = fifths[0], fifths[-1]
    return Spread(overall, low, statistics.median(values), high)


CSV_FIGURES = ("perplexity", "kl_nats", "agreement")
_SPREAD = ("overall", "low", "median", "high")
_REPORT_FIELDS = (
    "measured_at",
    "compute_dtype",
    "calibration",
    "text_name",
    "text_sha256",
    "context_tokens",
    "scored_tokens",
    "windows",
    "spread_kind",
)
_MACHINE_FIELDS = ("machine", "os", "backend", "nibble_version", "mlx_version", "mlx_lm_version")


def csv_text(reports: Sequence[QualityReport]) -> str:
    """Return one line for each variant and text, with what it was measured on at the end of the line."""
    text = io.StringIO()
    writer = csv.writer(text)
    figures = [f"{name}_{part}" for name in CSV_FIGURES for part in _SPREAD]
    writer.writerow(["model", "variant", "bits_per_value", *figures, *_REPORT_FIELDS, *_MACHINE_FIELDS])
    for report in reports:
        here = [getattr(report, name) for name in _REPORT_FIELDS]
        here += [getattr(report.machine, name) for name in _MACHINE_FIELDS]
        for variant in report.variants:
            spreads = [getattr(variant, name) for name in CSV_FIGURES]
            cells = [getattr(spread, part) for spread in spreads for part in _SPREAD]
            row = [report.model.name, variant.name, variant.bits_per_value, *cells, *here]
            # A spreadsheet would run such text as a formula.
            writer.writerow([f"'{c}" if isinstance(c, str) and c.startswith(("=", "+", "-", "@")) else c for c in row])
    return text.getvalue()


def json_text(reports: Sequence[QualityReport]) -> str:
    """Return all there is of the reports. Raises ValueError for NaN or infinity, which JSON cannot hold."""
    return json.dumps({"reports": to_plain(tuple(reports))}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def reports_from_json(text: str) -> tuple[QualityReport, ...]:
    """Read `json_text` back. Raises PlainError or ValueError where it is something else."""
    reports: tuple[QualityReport, ...] = from_plain(tuple[QualityReport, ...], json.loads(text)["reports"])
    return reports
