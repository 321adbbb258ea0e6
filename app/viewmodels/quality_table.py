"""A quality report as a Qt table, in words, as Markdown and in a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QModelIndex, QObject, QPersistentModelIndex, Qt

from app.chat.quality import QualityReport, Spread, VariantQuality, csv_text, json_text
from app.errors import NibbleError
from app.paths import replace_text
from app.viewmodels.column_table import SORT_ROLE, Column, ColumnTable
from app.viewmodels.compare_table import markdown_cell

IN_USE_ROLE = SORT_ROLE + 1
"""Whether the row is the int4 cache that the chat has."""
IN_USE = "in use"
_PERPLEXITY = (
    "How surprised the model is by the text's next token: 1 is not at all, and lower is better. exp of the mean "
    "negative log likelihood over all scored tokens."
)


@dataclass(frozen=True, slots=True)
class _Row:
    variant: VariantQuality
    is_in_use: bool
    spread_kind: str
    """What least and most of the spread are."""

    @property
    def name(self) -> str:
        return f"{self.variant.name} ({IN_USE})" if self.is_in_use else self.variant.name

    @property
    def about(self) -> str:
        about = f"{self.variant.name}: {self.variant.description}."
        group_size = self.variant.deployed_group_size
        return f"{about}\nThis chat's int4 cache: groups of {group_size}." if self.is_in_use else about

    @property
    def perplexity_range(self) -> str:
        spread = self.variant.perplexity
        return f"Over the windows: {spread.low:,.3f} to {spread.high:,.3f} ({self.spread_kind})."


_COLUMNS: tuple[Column[_Row], ...] = (
    Column(
        "Cache",
        "How keys and values are coded. All caches read the same text with the same weights.",
        lambda r: r.name,
        lambda r: r.variant.name.casefold(),
        is_figure=False,
    ),
    Column(
        "Bits",
        "Bits a value: what one number of the cache takes, its share of the scales included. The mean over all layers "
        "that can be int4; a layer kept in fp16 counts 16. Counted from the format.",
        lambda r: f"{r.variant.bits_per_value:.2f}",
        lambda r: r.variant.bits_per_value,
    ),
    Column(
        "Perplexity",
        _PERPLEXITY,
        lambda r: f"{r.variant.perplexity.overall:,.3f}",
        lambda r: r.variant.perplexity.overall,
        lambda r: f"{r.perplexity_range}\n{_PERPLEXITY}",
    ),
    Column(
        "KL, nats",
        "How far the predictions are from those with the fp16 cache: 0 is the same. KL(fp16 || this cache) of the next "
        "token's distribution, the mean over all scored tokens; in brackets how it spreads over the windows.",
        lambda r: _spread(r.variant.kl_nats, 1, "{:.4f}"),
        lambda r: r.variant.kl_nats.overall,
    ),
    Column(
        "Same first token",
        "How often the likeliest next token is the one that it is with the fp16 cache, as a share of all scored "
        "tokens; in brackets how it spreads over the windows.",
        lambda r: _spread(r.variant.agreement, 100, "{:.1f}", "%"),
        lambda r: r.variant.agreement.overall,
    ),
    Column(
        "What it is",
        "What sets this cache apart. Where an ingredient is taken away, all others stay.",
        lambda r: r.variant.description,
        lambda r: r.variant.description.casefold(),
        is_figure=False,
    ),
)
DESCRIPTION_COLUMN = len(_COLUMNS) - 1


class QualityTable(ColumnTable[_Row]):
    """One cache a row, in the order of the report. `group_size` is that of the chat's int4 cache."""

    def __init__(self, group_size: int, parent: QObject | None = None) -> None:
        super().__init__(_COLUMNS, parent)
        self._group_size = group_size
        self._report: QualityReport | None = None

    @property
    def report(self) -> QualityReport | None:
        """What is shown."""
        return self._report

    def set_report(self, report: QualityReport) -> None:
        """Show another report."""
        self._report = report
        self.set_rows(_rows(report, self._group_size))

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return whether the row is in use too; a tooltip says first which cache it is. Figures are read out alone."""
        if not index.isValid():
            return None
        row, found = self._rows[index.row()], super().data(index, role)
        match role:
            case Qt.ItemDataRole.ToolTipRole:
                return f"{row.about}\n{found}"
            case Qt.ItemDataRole.AccessibleTextRole:
                return None
            case _ if role == IN_USE_ROLE:
                return row.is_in_use
        return found


def headline(report: QualityReport, group_size: int) -> str:
    """Say in a sentence what the chat's int4 cache costs."""
    ours = next((v for v in report.variants if v.deployed_group_size == group_size), None)
    own = next((v for v in report.variants if v.name == "fp16"), None)
    if ours is None or own is None:
        return "Measured."
    return (
        f"int4 agrees with fp16 on the likeliest next token {ours.agreement.overall:.1%} of the time, at "
        f"{ours.bits_per_value:.2f} bits a value in place of {own.bits_per_value:g}."
    )


def conditions_text(report: QualityReport) -> str:
    """Say what was measured, and how."""
    windows = "1 window" if report.windows == 1 else f"{report.windows} windows"
    spread = "" if report.windows == 1 else f" In brackets: {report.spread_kind} over the windows."
    return (
        f"{report.model.name} ({report.compute_dtype}) on {report.text_name}: {windows} of {report.context_tokens:,} "
        f"tokens, the last {report.scored_tokens:,} of each scored, as in decode.{spread} Constants of ours from "
        f"{report.calibration}."
    )


def layers_text(report: QualityReport) -> str:
    """Say which layers stay fp16 and what else is to be known, a line each."""
    model = report.model
    kept = "" if model.int4_layers < model.layers else " None is kept in fp16."
    return "\n".join((f"int4 in {model.int4_layers} of {model.layers} layers.{kept}", *report.remarks))


def markdown_table(report: QualityReport, group_size: int) -> str:
    """Return the report as a Markdown table with its conditions below, ending in a line feed."""
    lines = [
        [column.heading for column in _COLUMNS],
        ["---:" if column.is_figure else "---" for column in _COLUMNS],
        *([column.text(row) for column in _COLUMNS] for row in _rows(report, group_size)),
    ]
    rows = "".join(f"| {' | '.join(markdown_cell(cell) for cell in line)} |\n" for line in lines)
    machine = report.machine
    below = (
        conditions_text(report),
        *layers_text(report).splitlines(),
        f"{machine.machine}, {machine.os}, {machine.backend}; Nibble {machine.nibble_version}, MLX "
        f"{machine.mlx_version}, mlx-lm {machine.mlx_lm_version}; {report.measured_at}.",
    )
    return rows + "\n" + "\n".join(f"- {' '.join(line.split())}" for line in below) + "\n"


def export_report(path: Path, report: QualityReport) -> None:
    """Write the report as CSV or JSON by the suffix of `path`. Raises NibbleError."""
    match path.suffix.lower():
        case ".csv":
            replace_text(path, csv_text([report]))
        case ".json":
            replace_text(path, json_text([report]))
        case suffix:
            raise NibbleError(
                f"Figures cannot be exported as {suffix or 'a file without a suffix'}.",
                "Choose a name that ends in .csv or .json.",
            )


def _rows(report: QualityReport, group_size: int) -> list[_Row]:
    return [_Row(v, v.deployed_group_size == group_size, report.spread_kind) for v in report.variants]


def _spread(spread: Spread, factor: float, form: str, unit: str = "") -> str:
    overall, low, high = (form.format(factor * x) for x in (spread.overall, spread.low, spread.high))
    return f"{overall}{unit} ({low}–{high})"
