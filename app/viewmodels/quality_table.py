"""A quality report as a Qt table, in words, as Markdown and in a file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from app.chat.quality import QualityReport, Spread, VariantQuality, csv_text, json_text
from app.errors import NibbleError
from app.paths import replace_text
from app.viewmodels.compare_table import markdown_cell

SORT_ROLE = int(Qt.ItemDataRole.UserRole)
"""What a column is sorted by."""
IN_USE_ROLE = SORT_ROLE + 1
"""Whether the row is the int4 cache that the chat has."""
IN_USE = "in use"
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter

_Key = str | float


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    tooltip: str
    shown: Callable[[VariantQuality], str]
    key: Callable[[VariantQuality], _Key]
    is_figure: bool = True


_COLUMNS = (
    _Column(
        "Cache",
        "How keys and values are coded. All caches read the same text with the same weights.",
        lambda v: v.name,
        lambda v: v.name.casefold(),
        is_figure=False,
    ),
    _Column(
        "Bits",
        "Bits a value: what one number of the cache takes, its share of the scales included. The mean over all layers "
        "that can be int4; a layer kept in fp16 counts 16. Counted from the format.",
        lambda v: f"{v.bits_per_value:.2f}",
        lambda v: v.bits_per_value,
    ),
    _Column(
        "Perplexity",
        "How surprised the model is by the text's next token: 1 is not at all, and lower is better. exp of the mean "
        "negative log likelihood over all scored tokens.",
        lambda v: f"{v.perplexity.overall:,.3f}",
        lambda v: v.perplexity.overall,
    ),
    _Column(
        "KL, nats",
        "How far the predictions are from those with the fp16 cache: 0 is the same. KL(fp16 || this cache) of the next "
        "token's distribution, the mean over all scored tokens; in brackets how it spreads over the windows.",
        lambda v: _spread(v.kl_nats, 1, "{:.4f}"),
        lambda v: v.kl_nats.overall,
    ),
    _Column(
        "Same first token",
        "How often the likeliest next token is the one that it is with the fp16 cache, as a share of all scored "
        "tokens; in brackets how it spreads over the windows.",
        lambda v: _spread(v.agreement, 100, "{:.1f}", "%"),
        lambda v: v.agreement.overall,
    ),
    _Column(
        "What it is",
        "What sets this cache apart. Where an ingredient is taken away, all others stay.",
        lambda v: v.description,
        lambda v: v.description.casefold(),
        is_figure=False,
    ),
)
DESCRIPTION_COLUMN = len(_COLUMNS) - 1


class QualityTable(QAbstractTableModel):
    """One cache a row, in the order of the report. `group_size` is that of the chat's int4 cache."""

    def __init__(self, group_size: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._group_size = group_size
        self._report: QualityReport | None = None

    @property
    def report(self) -> QualityReport | None:
        """What is shown."""
        return self._report

    def set_report(self, report: QualityReport) -> None:
        """Show another report."""
        self.beginResetModel()
        self._report = report
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = QModelIndex()) -> int:  # noqa: B008
        """Return the number of caches."""
        return 0 if parent.isValid() or self._report is None else len(self._report.variants)

    def columnCount(self, parent: QModelIndex | QPersistentModelIndex = QModelIndex()) -> int:  # noqa: B008
        """Return the number of columns."""
        return 0 if parent.isValid() else len(_COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> str | Qt.AlignmentFlag | None:
        """Return a heading and what the column is."""
        if orientation is not Qt.Orientation.Horizontal:
            return None
        column = _COLUMNS[section]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return column.heading
            case Qt.ItemDataRole.ToolTipRole:
                return column.tooltip
            case Qt.ItemDataRole.TextAlignmentRole:
                return _RIGHT if column.is_figure else _LEFT
        return None

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell's text, what it is, and what it is sorted by."""
        if not index.isValid() or self._report is None:
            return None
        variant, column = self._report.variants[index.row()], _COLUMNS[index.column()]
        in_use = variant.deployed_group_size == self._group_size
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return _name(variant, self._group_size) if index.column() == 0 else column.shown(variant)
            case Qt.ItemDataRole.ToolTipRole:
                return _tooltip(self._report, variant, column, in_use)
            case Qt.ItemDataRole.TextAlignmentRole:
                return _RIGHT if column.is_figure else _LEFT
            case _ if role == SORT_ROLE:
                return column.key(variant)
            case _ if role == IN_USE_ROLE:
                return in_use
        return None


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
        *(
            [_name(variant, group_size), *(column.shown(variant) for column in _COLUMNS[1:])]
            for variant in report.variants
        ),
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


def _name(variant: VariantQuality, group_size: int) -> str:
    return f"{variant.name} ({IN_USE})" if variant.deployed_group_size == group_size else variant.name


def _tooltip(report: QualityReport, variant: VariantQuality, column: _Column, in_use: bool) -> str:
    lines = [f"{variant.name}: {variant.description}."]
    if in_use:
        lines.append(f"This chat's int4 cache: groups of {variant.deployed_group_size}.")
    if column.heading == "Perplexity":
        low, high = variant.perplexity.low, variant.perplexity.high
        lines.append(f"Over the windows: {low:,.3f} to {high:,.3f} ({report.spread_kind}).")
    return "\n".join((*lines, column.tooltip))


def _spread(spread: Spread, factor: float, form: str, unit: str = "") -> str:
    overall, low, high = (form.format(factor * x) for x in (spread.overall, spread.low, spread.high))
    return f"{overall}{unit} ({low}–{high})"
