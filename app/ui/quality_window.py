"""What int4 costs the open model in quality, measured on a text: choice, progress, and the table that comes of it."""

from pathlib import Path

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.chat.figures import ModelFacts
from app.chat.quality import QualityReport, TextKind, TextSource
from app.errors import NibbleError
from app.ui import prompts
from app.ui.controls import NoticeBar
from app.ui.quality_pages import EmptyPage, ReportPage, RunningPage
from app.ui.run_window import RunWindow
from app.ui.theme import GAP, TIGHT, WIDE, SubtleLabel, TextLabel, scaled_font
from app.ui.wheel import turn_with_focus_only
from app.viewmodels.compare_run import ComparableEngine
from app.viewmodels.plain_tooltip import plain_tooltip
from app.viewmodels.quality_run import USUAL, QualityRun, effort_choices
from app.viewmodels.quality_table import export_report, markdown_table

RUN_KEYS = QKeySequence("Ctrl+Return")
_BUNDLED = ((TextKind.PROSE, "Bundled prose"), (TextKind.CHAT, "Bundled chat"))
_OWN = "A text file…"


class QualityWindow(RunWindow):
    """Measures the open model, one text after the other. `group_size` is that of the chat's int4 cache."""

    def __init__(
        self, engine: ComparableEngine, facts: ModelFacts, group_size: int, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setObjectName("quality_window")
        self.setAccessibleName("Quality of the int4 cache")
        self.setWindowTitle("Quality of the int4 cache")
        self._group_size = group_size
        self._efforts = effort_choices(facts.context_limit_tokens)
        self._source = TextSource()
        self._run: QualityRun = QualityRun(engine, self)
        self._build(facts)
        self._lay_out()
        self._connect()
        self._show_texts()
        self._show_cost()
        self._show_readiness()
        self.resize(self.sizeHint())

    def start(self) -> None:
        """Measure with what is chosen; ignored while a run is under way."""
        if not self._run.is_running:
            self.notice.hide()
            self._note.setText("")
            self._run.start(self._source, self._efforts[self._effort.currentIndex()].effort)
            self._show_readiness()

    def sizeHint(self) -> QSize:
        """Return a size with room for the whole table, where the screen has it."""
        return QSize(1180, 660).boundedTo(QGuiApplication.primaryScreen().availableSize())

    def _build(self, facts: ModelFacts) -> None:
        self._heading = TextLabel(facts.name)
        self._heading.setObjectName("quality_model")
        self._heading.setAccessibleName("Model")
        self._heading.setFont(scaled_font(self._heading.font(), 1.35, bold=True))
        self._heading.setWordWrap(True)
        self._text = _choice(
            "quality_text", "Text", "What the model reads. Calibration has seen none of the bundled texts."
        )
        self._effort = _choice("quality_effort", "Effort", "More windows make the figures surer and take longer.")
        self._effort.addItems([choice.name for choice in self._efforts])
        self._effort.setCurrentIndex(USUAL)
        self._cost = SubtleLabel(factor=0.92)
        self._cost.setObjectName("quality_cost")
        self._button = _button("quality_run", "Start")
        self._button.setDefault(True)
        self._button.setToolTip(f"{RUN_KEYS.toString(QKeySequence.SequenceFormat.NativeText)} starts, Esc cancels")
        self.notice = NoticeBar()
        self._empty = EmptyPage()
        self._running = RunningPage()
        self._report = ReportPage(self._group_size)
        self._pages = QStackedWidget()
        self._pages.setObjectName("quality_pages")
        for page in (self._empty, self._running, self._report):
            self._pages.addWidget(page)
        self._note = SubtleLabel()
        self._note.setObjectName("quality_note")
        self._note.setAccessibleName("State of the measuring")
        self._copy = _button("quality_copy", "Copy as Markdown Table")
        self._export = _button("quality_export", "Export…")

    def _lay_out(self) -> None:
        choices = QHBoxLayout()
        choices.setSpacing(GAP)
        for label, choice in (("Text", self._text), ("Effort", self._effort)):
            name = TextLabel(label)
            name.setBuddy(choice)
            choices.addWidget(name)
            choices.addWidget(choice)
            choices.addSpacing(WIDE)
        choices.addStretch(1)
        choices.addWidget(self._button)
        buttons = QHBoxLayout()
        buttons.addWidget(self._note, 1)
        buttons.addWidget(self._copy)
        buttons.addWidget(self._export)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(WIDE, WIDE, WIDE, WIDE)
        whole.setSpacing(GAP)
        whole.addWidget(self._heading)
        whole.addLayout(choices)
        whole.addWidget(self._cost)
        whole.addWidget(self.notice)
        whole.addSpacing(TIGHT)
        whole.addWidget(self._pages, 1)
        whole.addLayout(buttons)

    def _connect(self) -> None:
        self._button.clicked.connect(self._toggle)
        for keys in (RUN_KEYS, QKeySequence("Ctrl+Enter")):
            QShortcut(keys, self).activated.connect(self.start)
        self._text.activated.connect(self._choose_text)
        self._effort.currentIndexChanged.connect(self._show_cost)
        self._copy.clicked.connect(self._copy_table)
        self._export.clicked.connect(self._ask_export)
        self.notice.details_asked.connect(lambda detail: prompts.show_details(self, detail))
        self._run.progressed.connect(self._running.show_progress)
        self._run.finished.connect(self._finish)
        self._run.failed.connect(self._fail)
        self._run.cancelled.connect(self._settle_cancelled)

    # What the person does

    def _toggle(self) -> None:
        if self._run.is_running:
            self.stop()
        else:
            self.start()

    def _choose_text(self, index: int) -> None:
        chosen = self._text.itemData(index)
        if chosen is not None:
            self._source = chosen
            return
        self._show_texts()  # until a file is chosen, what was chosen before stays
        prompts.ask_text_file(self, self._take_file)

    def _take_file(self, path: Path) -> None:
        self._source = TextSource(TextKind.FILE, str(path))
        self._show_texts()

    def _copy_table(self) -> None:
        if (report := self._report.report) is not None:
            QGuiApplication.clipboard().setText(markdown_table(report, self._group_size))
            self._note.setText("The table is on the clipboard.")

    def _ask_export(self) -> None:
        if (report := self._report.report) is not None:
            prompts.ask_export_path(self, "Export Quality", "nibble-quality", lambda path: self._write(path, report))

    def _write(self, path: Path, report: QualityReport) -> None:
        try:
            export_report(path, report)
        except NibbleError as error:
            self.notice.show_notice(error.message, error.hint)
        else:
            self._note.setText(f"The figures were written to {path}.")

    # What comes of it

    def _finish(self, report: QualityReport) -> None:
        self._report.show_report(report)
        self._heading.setText(report.model.name)  # another one may have been opened meanwhile
        self._show_readiness()

    def _fail(self, message: str, hint: str, detail: str) -> None:
        self.notice.show_notice(message, hint, detail)
        self._show_readiness()

    def _settle_cancelled(self) -> None:
        self._note.setText("Cancelled.")
        self._show_readiness()

    # What is shown

    def _show_texts(self) -> None:
        """List the texts, with the file that was chosen, and mark the one that will be read."""
        self._text.clear()
        for kind, name in _BUNDLED:
            self._text.addItem(name, TextSource(kind))
        if self._source.kind is TextKind.FILE:
            self._text.addItem(Path(self._source.path).name, self._source)
            self._text.setItemData(
                self._text.count() - 1, plain_tooltip(self._source.path), Qt.ItemDataRole.ToolTipRole
            )
        sources = [self._text.itemData(i) for i in range(self._text.count())]
        self._text.insertSeparator(self._text.count())
        self._text.addItem(_OWN)
        self._text.setCurrentIndex(sources.index(self._source))

    def _show_cost(self) -> None:
        self._cost.setText(self._efforts[self._effort.currentIndex()].cost)

    def _show_readiness(self) -> None:
        running, measured = self._run.is_running, self._report.report is not None
        self._button.setText("Cancel" if running else "Start")
        self._button.setAccessibleName(self._button.text())
        self._text.setEnabled(not running)
        self._effort.setEnabled(not running)
        self._copy.setEnabled(measured and not running)
        self._export.setEnabled(measured and not running)
        page: QWidget = self._report if measured else self._empty
        self._pages.setCurrentWidget(self._running if running else page)


def _choice(name: str, accessible_name: str, tooltip: str) -> QComboBox:
    choice = QComboBox()
    turn_with_focus_only(choice)
    choice.setObjectName(name)
    choice.setAccessibleName(accessible_name)
    choice.setToolTip(tooltip)
    choice.setAccessibleDescription(tooltip)
    choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
    return choice


def _button(object_name: str, text: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(object_name)
    button.setAccessibleName(text)
    button.setAutoDefault(False)
    return button
