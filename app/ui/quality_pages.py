"""The pages of the quality window: what measuring is and costs, how far it is, and the report."""

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtGui import QBrush, QFont
from PySide6.QtWidgets import (
    QHBoxLayout,
    QProgressBar,
    QStyleOptionViewItem,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from app.chat.quality import QualityReport
from app.ui.figure_table import CellPainter, figure_table
from app.ui.theme import GAP, TIGHT, WIDE, SubtleLabel, TextLabel, accent, mix, scaled_font
from app.viewmodels.quality_run import RunProgress
from app.viewmodels.quality_table import (
    DESCRIPTION_COLUMN,
    IN_USE_ROLE,
    QualityTable,
    conditions_text,
    headline,
    layers_text,
)

TEXT_WIDTH = 560
_STEPS = 1000
_WHAT = (
    "The model reads a text again and again: with its own fp16 cache, with this chat's int4 cache, with other ways of "
    "coding, and with each ingredient of ours taken away. For every token its predictions are compared with those of "
    "fp16.",
    "You get perplexity, KL and how often the likeliest next token stays the same, each with its spread. They hold for "
    "this model and this text.",
    "Everything happens on this machine. It takes from seconds on a small model and a GPU to many minutes on a large "
    "one. Replies wait until it is done or cancelled.",
)


class EmptyPage(QWidget):
    """Says what measuring does and what it costs, before there is a report."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("quality_empty")
        title = TextLabel("What does int4 cost this model?")
        title.setObjectName("quality_empty_title")
        title.setFont(scaled_font(title.font(), 1.5, bold=True))
        title.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        column = _centred_column(self)
        column.addWidget(title)
        column.addSpacing(GAP)
        for text in _WHAT:
            column.addWidget(SubtleLabel(text))
        column.addStretch(3)
        self.setAccessibleName(f"{title.text()} {' '.join(_WHAT)}")


class RunningPage(QWidget):
    """Says how far a run is."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("quality_running")
        self._step = TextLabel()
        self._step.setObjectName("quality_step")
        self._bar = QProgressBar()
        self._bar.setObjectName("quality_progress")
        self._bar.setAccessibleName("Progress of measuring")
        self._bar.setTextVisible(False)
        self._remaining = SubtleLabel()
        self._remaining.setObjectName("quality_remaining")
        waits = SubtleLabel("Replies wait until it is done or cancelled. Closing this window cancels.")
        column = _centred_column(self)
        column.addWidget(self._step)
        column.addWidget(self._bar)
        column.addWidget(self._remaining)
        column.addSpacing(WIDE)
        column.addWidget(waits)
        column.addStretch(3)

    def show_progress(self, progress: RunProgress) -> None:
        """Show the share that is done and what is being done; a bar that only moves while no share is known."""
        known = progress.fraction >= 0
        self._bar.setRange(0, _STEPS if known else 0)
        if known:
            self._bar.setValue(round(_STEPS * progress.fraction))
        share = f"{progress.fraction:.0%}" if known else ""
        self._step.setText(progress.step)
        self._remaining.setText(" · ".join(part for part in (share, progress.remaining) if part) or " ")
        self._bar.setAccessibleDescription(f"{progress.step} {self._remaining.text()}".strip())


class ReportPage(QWidget):
    """A report: a sentence, the table, what it was measured with and which layers stay fp16."""

    def __init__(self, group_size: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("quality_report")
        self._group_size = group_size
        self._headline = TextLabel()
        self._headline.setObjectName("quality_headline")
        self._headline.setWordWrap(True)
        self._headline.setFont(scaled_font(self._headline.font(), 1.1))
        self._table = QualityTable(group_size, self)
        self._view = _view(self._table, self)
        self._layers = SubtleLabel(factor=0.92)
        self._layers.setObjectName("quality_layers")
        self._conditions = SubtleLabel(factor=0.92)
        self._conditions.setObjectName("quality_conditions")
        for label in (self._headline, self._layers, self._conditions):
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP)
        column.addWidget(self._headline)
        column.addWidget(self._view, 1)
        column.addWidget(self._layers)
        column.addWidget(self._conditions)

    @property
    def report(self) -> QualityReport | None:
        """What is shown."""
        return self._table.report

    def show_report(self, report: QualityReport) -> None:
        """Show a report, in its own order."""
        self._table.set_report(report)
        self._view.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        for column in range(DESCRIPTION_COLUMN):
            self._view.resizeColumnToContents(column)
        self._headline.setText(headline(report, self._group_size))
        self._layers.setText(layers_text(report))
        self._conditions.setText(conditions_text(report))


class _RowPainter(CellPainter):
    """Draws the row of the cache in use in bold on a tint; its name says so too."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        """Add weight and tint."""
        super().initStyleOption(option, index)
        if index.data(IN_USE_ROLE):
            font = QFont(option.font)
            font.setWeight(QFont.Weight.DemiBold)
            palette = option.palette
            option.font = font
            option.backgroundBrush = QBrush(mix(palette.base().color(), accent(palette), 0.16))


def _view(table: QualityTable, parent: QWidget) -> QTableView:
    view = figure_table(table, parent)
    view.setObjectName("quality_table")
    view.setAccessibleName("Quality of every cache")
    view.setItemDelegate(_RowPainter(view))
    return view


def _centred_column(page: QWidget) -> QVBoxLayout:
    """Return a column of readable width, a little above the page's middle."""
    block = QWidget()
    block.setMaximumWidth(TEXT_WIDTH)
    column = QVBoxLayout(block)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(GAP)
    column.addStretch(2)
    whole = QHBoxLayout(page)
    whole.setContentsMargins(WIDE, TIGHT, WIDE, TIGHT)
    whole.addStretch(1)
    whole.addWidget(block, 100)
    whole.addStretch(1)
    return column
