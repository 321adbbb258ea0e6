"""The same prompt through fp16 and int4, both replies and all figures side by side."""

from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QSpinBox,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from app.chat.comparison import KeptComparison
from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions
from app.engine.protocol import Finished
from app.ui.prompt_edit import PromptEdit
from app.ui.reply_column import ReplyColumn
from app.ui.run_window import RunWindow
from app.ui.scroll_bar import quieten
from app.ui.theme import GAP, WIDE, SubtleLabel, TextLabel, figure_font, scaled_font
from app.ui.wheel import turn_with_focus_only
from app.viewmodels.compare_run import MOST_ROUNDS, ORDER, ComparableEngine, CompareRun
from app.viewmodels.compare_table import (
    CompareResult,
    CompareRow,
    compare_rows,
    conditions_text,
    markdown_table,
    parting_text,
    rounds_text,
    summary_text,
    unmeasured_rows,
)
from app.viewmodels.comparisons import BOUND_TEXT, kept_text, result_of

RUN_KEYS = QKeySequence("Ctrl+Return")
HEADINGS = ("Figure", "fp16", "int4", "Difference")


class CompareWindow(RunWindow):
    """Runs comparisons, one after the other, with the options of one chat."""

    compared = Signal(object)
    """CompareResult, when both replies are written."""
    export_requested = Signal(object)
    """list[ReplyFigures]: of every round fp16's, then int4's."""

    def __init__(
        self,
        engine: ComparableEngine,
        model_name: str,
        options: ChatOptions,
        prompt: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setObjectName("compare_window")
        self.setAccessibleName("Compare fp16 and int4")
        self.setWindowTitle("Compare fp16 and int4")
        self._options = options
        self._result: CompareResult | None = None
        self._run: CompareRun = CompareRun(engine, self)
        self._build(model_name, prompt)
        self._lay_out()
        self._connect()
        self._show_rows(unmeasured_rows())
        self._show_readiness()
        self._show_conditions()

    def start(self) -> None:
        """Run the prompt through both modes; ignored while a run is under way or the prompt is empty."""
        prompt = self.prompt
        if self._run.is_running or not prompt:
            return
        self._result = None
        for column in self._columns.values():
            column.clear()
        self._show_rows(unmeasured_rows())
        self._note.setText("")
        self._run.start((Message(Role.USER, prompt),), self._options, self._greedy.isChecked(), self._rounds.value())
        self._show_readiness()

    @property
    def prompt(self) -> str:
        """The prompt as it stands."""
        return self._prompt.toPlainText().strip()

    @property
    def conditions(self) -> str:
        """Under which settings both replies are written, in words."""
        return self._conditions.text()

    def show_kept(self, kept: KeptComparison) -> None:
        """Show a comparison made earlier, until the next run."""
        self._prompt.setPlainText(kept.prompt)
        result = result_of(kept)
        for mode, reply in ((CacheMode.FP16, result.fp16), (CacheMode.INT4, result.int4)):
            self._columns[mode].clear()
            self._columns[mode].set_text(reply.text)
            self._finish_column(mode, reply)
        self._show_result(result, f"{kept_text(kept)} {kept.conditions}")

    def show_note(self, message: str, hint: str = "") -> None:
        """Say what became of the comparison or of what was done with it."""
        self._note.setText(f"{message} {hint}".rstrip())

    def sizeHint(self) -> QSize:
        """Return a size with room for two columns and the whole table."""
        return QSize(920, 820)

    def _build(self, model_name: str, prompt: str) -> None:
        self._heading = TextLabel(model_name)
        self._heading.setObjectName("compare_model")
        self._heading.setAccessibleName("Model")
        self._heading.setFont(scaled_font(self._heading.font(), 1.35, bold=True))
        self._heading.setWordWrap(True)
        self._prompt = PromptEdit(lines=3)
        self._prompt.setPlainText(prompt)
        self._prompt.setObjectName("compare_prompt")
        self._prompt.setAccessibleName("Prompt")
        self._prompt.setPlaceholderText("A prompt for both")
        self._greedy = QCheckBox("Greedy")
        self._greedy.setObjectName("compare_greedy")
        self._greedy.setAccessibleName("Greedy")
        self._greedy.setChecked(True)
        self._greedy.setToolTip("Always take the likeliest token: the same prompt gives the same replies every time.")
        self._greedy.setAccessibleDescription(self._greedy.toolTip())
        self._rounds = QSpinBox()
        turn_with_focus_only(self._rounds)
        self._rounds.setObjectName("compare_rounds")
        self._rounds.setAccessibleName("Rounds")
        self._rounds.setRange(1, MOST_ROUNDS)
        self._rounds.setSuffix(" ×")
        self._rounds.setToolTip(
            f"Run it so many times, 1 to {MOST_ROUNDS}: the table then shows medians, with the least and the most."
        )
        self._rounds.setAccessibleDescription(self._rounds.toolTip())
        self._conditions = SubtleLabel(factor=0.92)
        self._conditions.setObjectName("compare_conditions")
        self._button = _button("compare_run", "Run")
        self._button.setDefault(True)
        self._button.setToolTip(f"{RUN_KEYS.toString(QKeySequence.SequenceFormat.NativeText)} runs, Esc stops")
        self._columns = {mode: ReplyColumn(mode) for mode in ORDER}
        self._note = SubtleLabel()
        self._note.setObjectName("compare_note")
        self._note.setAccessibleName("State of the comparison")
        self._note.setToolTip(BOUND_TEXT)
        self._table = _table()
        self._copy = _button("compare_copy", "Copy as Markdown Table")
        self._export = _button("compare_export", "Export…")

    def _lay_out(self) -> None:
        controls = QHBoxLayout()
        controls.setSpacing(WIDE)
        controls.addWidget(self._greedy)
        repeat = TextLabel("Repeat")
        repeat.setBuddy(self._rounds)
        controls.addWidget(repeat)
        controls.addWidget(self._rounds)
        controls.addWidget(self._conditions, 1)
        controls.addWidget(self._button)
        replies = QSplitter(Qt.Orientation.Horizontal)
        replies.setObjectName("compare_replies")
        replies.setChildrenCollapsible(False)
        replies.setHandleWidth(WIDE)
        for column in self._columns.values():
            replies.addWidget(column)
        split = QSplitter(Qt.Orientation.Vertical)
        split.setObjectName("compare_split")
        split.setChildrenCollapsible(False)
        split.setHandleWidth(WIDE)
        split.addWidget(replies)
        split.addWidget(self._table)
        split.setSizes([300, 340])
        split.setStretchFactor(0, 1)
        split.setStretchFactor(1, 1)
        buttons = QHBoxLayout()
        buttons.addWidget(self._note, 1)
        buttons.addWidget(self._copy)
        buttons.addWidget(self._export)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(WIDE, WIDE, WIDE, WIDE)
        whole.setSpacing(GAP)
        whole.addWidget(self._heading)
        whole.addWidget(self._prompt)
        whole.addLayout(controls)
        whole.addWidget(split, 1)
        whole.addLayout(buttons)

    def _connect(self) -> None:
        self._button.clicked.connect(self._toggle)
        for keys in (RUN_KEYS, QKeySequence("Ctrl+Enter")):
            QShortcut(keys, self).activated.connect(self.start)
        self._prompt.textChanged.connect(self._show_readiness)
        self._greedy.toggled.connect(self._show_conditions)
        self._copy.clicked.connect(self._copy_table)
        self._export.clicked.connect(self._ask_export)
        self._run.column_changed.connect(self._show_text)
        self._run.column_finished.connect(self._finish_column)
        self._run.status_changed.connect(self._note.setText)
        self._run.finished.connect(self._finish)
        self._run.failed.connect(self._fail)
        self._run.cancelled.connect(self._settle_cancelled)

    def _toggle(self) -> None:
        if self._run.is_running:
            self.stop()
        else:
            self.start()

    def _show_text(self, mode: CacheMode, text: str) -> None:
        self._columns[mode].set_text(text)

    def _finish_column(self, mode: CacheMode, reply: Finished) -> None:
        self._columns[mode].set_caption(summary_text(reply.figures))

    def _finish(self, result: CompareResult) -> None:
        self._show_result(result)
        self.compared.emit(result)

    def _show_result(self, result: CompareResult, before: str = "") -> None:
        self._result = result
        self._show_rows(compare_rows(result))
        sentence = parting_text(result)
        self._note.setText(" ".join(part for part in (before, sentence, rounds_text(result)) if part))
        parting = result.comparison.first_different_char
        if parting is not None:
            for column in self._columns.values():
                column.mark(parting, sentence)
        self._show_readiness()

    def _fail(self, message: str, hint: str) -> None:
        self.show_note(message, hint)
        self._show_readiness()

    def _settle_cancelled(self) -> None:
        self._note.setText("Stopped. A comparison needs both replies.")
        self._show_readiness()

    def _copy_table(self) -> None:
        if self._result is not None:
            QGuiApplication.clipboard().setText(markdown_table(compare_rows(self._result)))
            self._note.setText("The table is on the clipboard.")

    def _ask_export(self) -> None:
        if self._result is not None:
            self.export_requested.emit([f for one in self._result.all_rounds for f in (one.fp16, one.int4)])

    def _show_readiness(self) -> None:
        running = self._run.is_running
        self._button.setText("Stop" if running else "Run")
        self._button.setAccessibleName(self._button.text())
        self._button.setEnabled(running or bool(self._prompt.toPlainText().strip()))
        self._prompt.setReadOnly(running)
        self._greedy.setEnabled(not running)
        self._rounds.setEnabled(not running)
        self._copy.setEnabled(self._result is not None)
        self._export.setEnabled(self._result is not None)

    def _show_conditions(self) -> None:
        self._conditions.setText(conditions_text(self._options, self._greedy.isChecked()))

    def _show_rows(self, rows: Sequence[CompareRow]) -> None:
        self._table.setRowCount(len(rows))
        for i, row in enumerate(rows):
            for j, text in enumerate((row.label, row.fp16, row.int4, row.difference)):
                item = QTableWidgetItem(text)
                item.setToolTip(f"{text}\n{row.tooltip}" if j and text else row.tooltip)
                if j:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self._table.setItem(i, j, item)


def _button(object_name: str, text: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(object_name)
    button.setAccessibleName(text)
    button.setAutoDefault(False)
    return button


def _table() -> QTableWidget:
    table = QTableWidget(0, len(HEADINGS))
    table.setObjectName("compare_table")
    table.setAccessibleName("Figures of both replies")
    table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
    table.setAlternatingRowColors(True)
    table.setShowGrid(False)
    table.setWordWrap(False)
    table.setTabKeyNavigation(False)
    table.setFont(figure_font(table.font()))
    quieten(table)
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(table.fontMetrics().height() + GAP)
    header = table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
    for j in (0, len(HEADINGS) - 1):  # what is left over goes to the figures, which have their spread beside them
        header.setSectionResizeMode(j, QHeaderView.ResizeMode.ResizeToContents)
    header.setHighlightSections(False)
    for j, heading in enumerate(HEADINGS):
        side = Qt.AlignmentFlag.AlignRight if j else Qt.AlignmentFlag.AlignLeft
        item = QTableWidgetItem(heading)
        item.setTextAlignment(side | Qt.AlignmentFlag.AlignVCenter)
        table.setHorizontalHeaderItem(j, item)
    return table
