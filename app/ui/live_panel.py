"""The live panel: what this chat's cache takes, what it would take in fp16, how fast it goes, what memory is held."""

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtWidgets import QApplication, QFrame, QGridLayout, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from app.chat.options import CacheMode
from app.ui.growth_plot import GrowthPlot
from app.ui.meter import Meter
from app.ui.outlook_grid import OutlookGrid
from app.ui.scroll_bar import WIDTH as SCROLL_BAR_WIDTH
from app.ui.sparkline import Sparkline
from app.ui.theme import GAP, TIGHT, WIDE, Hairline, SubtleLabel, TextLabel, figure_font, scaled_font
from app.viewmodels.cache_course import Course
from app.viewmodels.outlook_table import OutlookTable
from app.viewmodels.panel_state import PanelState

SECTIONS = {"cache": "KV cache", "speed": "Speed", "context": "Context", "memory": "Memory in the engine"}
"""Headings, by the part of a row's key before the dot."""
OUTLOOK = "Outlook"
LEAST_WIDTH = 250


class LivePanel(QWidget):
    """Shows one PanelState at a time; knows nothing of where it came from."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("live_panel")
        self.setAccessibleName("Live figures of this chat")
        self._values: dict[str, TextLabel] = {}
        self._labels: dict[str, TextLabel] = {}
        self._grids: dict[str, QGridLayout] = {}

        self._headline = TextLabel(parent=self)
        self._headline.setObjectName("panel_headline")
        self._headline.setAccessibleName("What the cache saves")
        self._headline.setFont(scaled_font(self._headline.font(), 1.35, bold=True))
        self._headline.setWordWrap(True)
        self._headline.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self._headline.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # Qt lets text that can be selected have it by click
        self._mode = _quiet("panel_mode", "How the cache is held")
        self._status = _quiet("panel_status", "What the engine is doing")
        self._notes = _quiet("panel_layer_notes", "Why layers are not int4")
        self._own_label, self._own_bytes = TextLabel("This cache"), _figure("panel_own_bytes", "This cache, allocated")
        self._fp16_label, self._fp16_bytes = TextLabel("In fp16"), _figure("panel_fp16_bytes", "In fp16, allocated")
        self._own_bar = Meter("This cache against fp16")
        self._own_bar.setObjectName("panel_own_bar")
        self._fp16_bar = Meter("The same tokens in fp16", tinted=False)
        self._fp16_bar.setObjectName("panel_fp16_bar")
        self._context_bar = Meter("Context used")
        self._context_bar.setObjectName("panel_context_bar")
        self._sparkline = Sparkline("Recent decode speed")
        self._sparkline.setObjectName("panel_sparkline")
        self._growth = GrowthPlot("Growth of this cache beside fp16")
        self._growth.setObjectName("panel_growth")
        self._outlook = OutlookGrid()
        self._page = QWidget()
        self._page.setObjectName("panel_page")
        self._lay_out()

    def show_state(self, state: PanelState) -> None:
        """Show `state`; a section's rows are made on first sight and only rewritten after."""
        for row in state.rows:
            if row.key not in self._values:
                self._add_row(row.key, row.label)
            label, value = self._labels[row.key], self._values[row.key]
            _write(value, row.value)
            for part in (label, value):
                if part.toolTip() != row.tooltip:
                    part.setToolTip(row.tooltip)
                    part.setAccessibleDescription(row.tooltip)
        _write(self._headline, state.headline)
        _write(self._mode, state.mode_line)
        _write(self._status, state.status)
        self._status.setVisible(bool(state.status))
        _write(self._notes, "\n".join(state.layer_notes))
        self._notes.setVisible(bool(state.layer_notes))
        self._show_bars(state)
        self._sparkline.set_values(state.speeds, state.speeds_text)
        self._sparkline.setVisible(bool(state.speeds))
        # Before the next paint, or all would be painted once more after it.
        for widget in (self._page, self._page.parentWidget()):
            QApplication.sendPostedEvents(widget, QEvent.Type.LayoutRequest)

    def show_course(self, course: Course) -> None:
        """Show how the cache has grown."""
        self._growth.set_course(course)

    def show_outlook(self, table: OutlookTable) -> None:
        """Show what lengths to come would take."""
        self._outlook.show_table(table)

    def sizeHint(self) -> QSize:
        """Return a width at which no usual figure wraps."""
        return QSize(36 * self.fontMetrics().averageCharWidth() + 2 * WIDE, 640)

    def minimumSizeHint(self) -> QSize:
        """Return the least width at which no figure is cut off, whatever the size of the text."""
        return QSize(max(LEAST_WIDTH, self._page.minimumSizeHint().width() + SCROLL_BAR_WIDTH), 200)

    def changeEvent(self, event: QEvent) -> None:
        """Let the scroll area's page follow the window's palette and size of text."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self.update()
        elif event.type() == QEvent.Type.FontChange:
            self.updateGeometry()

    def _show_bars(self, state: PanelState) -> None:
        own = "This cache, int4" if state.mode is CacheMode.INT4 else "This cache, fp16"
        _write(self._own_label, own)
        allocated, used, fp16 = (state.value(f"cache.{key}") for key in ("allocated", "used", "fp16"))
        _write(self._own_bytes, allocated)
        _write(self._fp16_bytes, fp16)
        in_words = f"{own}: {allocated} allocated, of it {used} used. The same tokens in fp16: {fp16} allocated."
        self._own_bar.set_shares(state.allocated_share, state.used_share, in_words)
        self._fp16_bar.set_shares(state.fp16_allocated_share, state.fp16_used_share, in_words)
        key = f"{in_words} Solid: used; hatched: reserved for the next tokens."
        for part in (
            self._own_label,
            self._own_bytes,
            self._own_bar,
            self._fp16_label,
            self._fp16_bytes,
            self._fp16_bar,
        ):
            part.setToolTip(key)
        self._context_bar.set_shares(0.0, state.context_share, state.value("context.used"))
        self._context_bar.setToolTip(f"Context used: {state.value('context.used')}")

    def _lay_out(self) -> None:
        page = self._page
        column = QVBoxLayout(page)
        column.setContentsMargins(WIDE, WIDE, WIDE, WIDE)
        column.setSpacing(GAP)
        column.addWidget(self._headline)
        column.addWidget(self._mode)
        column.addWidget(self._status)
        column.addLayout(self._bars())
        column.addWidget(self._growth)
        for section, title in SECTIONS.items():
            _add_heading(column, title)
            grid = QGridLayout()
            grid.setVerticalSpacing(TIGHT)
            grid.setHorizontalSpacing(GAP)
            grid.setColumnStretch(1, 1)
            self._grids[section] = grid
            column.addLayout(grid)
            if section == "cache":
                column.addWidget(self._notes)
            elif section == "speed":
                column.addWidget(self._sparkline)
            elif section == "context":
                column.addWidget(self._context_bar)
                _add_heading(column, OUTLOOK)
                column.addWidget(self._outlook)
        column.addStretch(1)

        scroll = QScrollArea(self)
        scroll.setObjectName("panel_scroll")
        scroll.setAccessibleName("Live figures")
        scroll.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # Tab goes to the headline inside, whose keys scroll
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        scroll.setWidget(page)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(scroll)

    def _bars(self) -> QGridLayout:
        bars = QGridLayout()
        bars.setContentsMargins(0, TIGHT, 0, 0)
        bars.setVerticalSpacing(TIGHT)
        bars.setColumnStretch(0, 1)
        bars.addWidget(self._own_label, 0, 0)
        bars.addWidget(self._own_bytes, 0, 1)
        bars.addWidget(self._own_bar, 1, 0, 1, 2)
        bars.setRowMinimumHeight(2, TIGHT)
        bars.addWidget(self._fp16_label, 3, 0)
        bars.addWidget(self._fp16_bytes, 3, 1)
        bars.addWidget(self._fp16_bar, 4, 0, 1, 2)
        return bars

    def _add_row(self, key: str, title: str) -> None:
        section, _, name = key.partition(".")
        grid = self._grids[section]
        label = SubtleLabel(title)
        label.setWordWrap(False)
        value = _figure(f"panel_{section}_{name}", f"{SECTIONS[section]}: {title}")
        value.setWordWrap(True)
        row = grid.rowCount()
        grid.addWidget(label, row, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(value, row, 1)
        self._labels[key], self._values[key] = label, value


def _add_heading(column: QVBoxLayout, title: str) -> None:
    column.addSpacing(TIGHT)
    column.addWidget(Hairline())
    heading = TextLabel(title)
    heading.setFont(scaled_font(heading.font(), 1.0, bold=True))
    column.addWidget(heading)


def _figure(object_name: str, accessible_name: str) -> TextLabel:
    label = TextLabel()
    label.setObjectName(object_name)
    label.setAccessibleName(accessible_name)
    label.setFont(figure_font(label.font()))
    label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
    return label


def _quiet(object_name: str, accessible_name: str) -> SubtleLabel:
    label = SubtleLabel(factor=0.92)
    label.setObjectName(object_name)
    label.setAccessibleName(accessible_name)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


def _write(label: TextLabel, text: str) -> None:
    if label.text() != text:
        label.setText(text)
