"""The figures of a session: every reply in a table, speed and memory against context length, and the way to a file."""

from pathlib import Path

from PySide6.QtCore import QByteArray, QPoint, QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication, QImage, QImageWriter, QPainter
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QHBoxLayout,
    QPushButton,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.errors import NibbleError
from app.ui import prompts
from app.ui.controls import NoticeBar
from app.ui.figure_table import figure_table
from app.ui.scatter_plot import ScatterPlot
from app.ui.theme import GAP, TIGHT, WIDE, SubtleLabel, TextLabel, scaled_font
from app.ui.wheel import turn_with_focus_only
from app.viewmodels.session_stats import BOUND_TEXT, THIS_SESSION, SessionStats, ShownSession
from app.viewmodels.stats_plots import memory_plot, speed_plot
from app.viewmodels.stats_table import CHAT_COLUMN, StatsTable, summary

CHAT_WIDTH = 160
EMPTY_WIDTH = 460
PICTURE_SCALE = 2
"""Pixels of a saved picture for each pixel on a plain screen."""
_EMPTY_TITLE = "No replies yet"
_EMPTY_TEXT = (
    "Every reply of this session will stand here with its speed, its context length and what its KV cache takes, in a "
    "table and as two plots. Send a message to begin; chats in int4 and in fp16 can then be told apart."
)


class StatsWindow(QDialog):
    """Shows this session as it grows, or an earlier one."""

    chat_asked = Signal()
    """The person wants to write a message."""

    def __init__(self, stats: SessionStats, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setObjectName("stats_window")
        self.setAccessibleName("Session stats")
        self.setWindowTitle("Session Stats")
        self._stats = stats
        self._shown = ShownSession((), None)
        self._is_fitted = False
        self._build()
        self._lay_out()
        self._connect()
        self._show_choices()
        self._show_session(THIS_SESSION)
        self.resize(self.sizeHint())

    def sizeHint(self) -> QSize:
        """Return a size with room for the whole table, where the screen has it."""
        return QSize(1180, 720).boundedTo(QGuiApplication.primaryScreen().availableSize())

    def save_plots(self, path: Path) -> None:
        """Write both plots as one PNG picture; where that fails, say so."""
        size = self._plots.size()
        picture = QImage(size * PICTURE_SCALE, QImage.Format.Format_ARGB32_Premultiplied)
        picture.setDevicePixelRatio(PICTURE_SCALE)
        picture.fill(self.palette().window().color())
        painter = QPainter(picture)
        self._plots.render(painter, QPoint())
        painter.end()
        writer = QImageWriter(str(path), QByteArray(b"PNG"))
        if writer.write(picture):
            self._note.setText(f"The plots were written to {path}.")
        else:
            hint = "Check that the folder exists, that you may write there, and that the disk is not full."
            self.notice.show_notice(f"{path} could not be written: {writer.errorString()}.", hint)

    def _build(self) -> None:
        self._summary = TextLabel()
        self._summary.setObjectName("stats_summary")
        self._summary.setAccessibleName("Session in a sentence")
        self._summary.setWordWrap(True)
        self._summary.setFont(scaled_font(self._summary.font(), 1.1))
        self._choice = QComboBox()
        turn_with_focus_only(self._choice)
        self._choice.setObjectName("stats_session")
        self._choice.setAccessibleName("Session")
        self._choice.setToolTip(f"This session, or an earlier one. {BOUND_TEXT}")
        self._choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.notice = NoticeBar()
        self._table = StatsTable(self)
        self._view = figure_table(self._table, self)
        self._view.setObjectName("stats_table")
        self._view.setAccessibleName("Replies of the session")
        self._speed = ScatterPlot(speed_plot(()), "stats_speed_plot")
        self._memory = ScatterPlot(memory_plot(()), "stats_memory_plot")
        self._delete = _button("stats_delete", "Delete…")
        self._delete.setAccessibleName("Delete this session's figures")
        self._delete.setToolTip("Delete the figures of this earlier session, and the chat titles among them")
        self._to_chat = _button("stats_to_chat", "Write a Message")
        self._note = SubtleLabel()
        self._note.setObjectName("stats_note")
        self._note.setAccessibleName("What was written")
        self._save = _button("stats_save_plots", "Save Plots…")
        self._save.setToolTip("Both plots as one PNG picture")
        self._export = _button("stats_export", "Export…")
        self._export.setToolTip("All figures as CSV or JSON, or a table in Markdown")

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(GAP)
        name = TextLabel("Session")
        name.setBuddy(self._choice)
        head.addWidget(name)
        head.addWidget(self._choice)
        head.addWidget(self._delete)
        head.addStretch(1)
        self._plots = QWidget()
        self._plots.setObjectName("stats_plots")
        plots = QHBoxLayout(self._plots)
        plots.setContentsMargins(0, GAP, 0, 0)
        plots.setSpacing(WIDE)
        plots.addWidget(self._speed)
        plots.addWidget(self._memory)
        self._content = QSplitter(Qt.Orientation.Vertical)
        self._content.setObjectName("stats_content")
        self._content.setChildrenCollapsible(False)
        self._content.addWidget(self._view)
        self._content.addWidget(self._plots)
        self._content.setSizes([300, 300])
        self._pages = QStackedWidget()
        self._pages.setObjectName("stats_pages")
        self._empty = self._empty_page()
        self._pages.addWidget(self._empty)
        self._pages.addWidget(self._content)
        buttons = QHBoxLayout()
        buttons.addWidget(self._note, 1)
        buttons.addWidget(self._save)
        buttons.addWidget(self._export)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(WIDE, WIDE, WIDE, WIDE)
        whole.setSpacing(GAP)
        whole.addLayout(head)
        whole.addWidget(self.notice)
        whole.addWidget(self._summary)
        whole.addWidget(self._pages, 1)
        whole.addLayout(buttons)

    def _empty_page(self) -> QWidget:
        page = QWidget()
        page.setObjectName("stats_empty")
        page.setAccessibleName(f"{_EMPTY_TITLE}. {_EMPTY_TEXT}")
        title = TextLabel(_EMPTY_TITLE)
        title.setFont(scaled_font(title.font(), 1.5, bold=True))
        text = SubtleLabel(_EMPTY_TEXT)
        text.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        text.setFixedWidth(EMPTY_WIDTH)
        text.setMinimumHeight(text.heightForWidth(EMPTY_WIDTH))
        column = QVBoxLayout(page)
        column.setSpacing(GAP + TIGHT)
        column.addStretch(2)
        column.addWidget(title, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addWidget(text, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addWidget(self._to_chat, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(3)
        return page

    def _connect(self) -> None:
        self._choice.activated.connect(lambda index: self._show_session(self._choice.itemData(index)))
        self._stats.changed.connect(self._grow)
        self._to_chat.clicked.connect(self.chat_asked)
        self._save.clicked.connect(self._ask_picture)
        self._export.clicked.connect(self._ask_export)
        self._delete.clicked.connect(self._ask_delete)

    # What the person does

    def _ask_picture(self) -> None:
        prompts.ask_export_path(self, "Save Plots", "nibble-session", self.save_plots, ("png",))

    def _ask_export(self) -> None:
        session = self._shown

        def write(path: Path) -> None:
            self._write(path, session)

        prompts.ask_export_path(self, "Export Session Stats", "nibble-session", write, prompts.SESSION_KINDS)

    def _ask_delete(self) -> None:
        name = self._choice.currentData()
        prompts.confirm_delete_session(self, self._choice.currentText(), lambda: self._delete_session(name))

    def _delete_session(self, name: str) -> None:
        try:
            self._stats.delete(name)
        except NibbleError as error:
            self.notice.show_notice(error.message, error.hint)
        else:
            self._show_choices()
            self._show_session(THIS_SESSION)

    def _write(self, path: Path, session: ShownSession) -> None:
        try:
            self._stats.export_session(path, session)
        except NibbleError as error:
            self.notice.show_notice(error.message, error.hint)
        else:
            self._note.setText(f"The figures were written to {path}.")

    # What is shown

    def _show_choices(self) -> None:
        self._choice.clear()
        for choice in self._stats.choices():
            self._choice.addItem(choice.label, choice.name)

    def _grow(self) -> None:
        if self._choice.currentData() == THIS_SESSION:
            self._show(self._stats.session(THIS_SESSION))

    def _show_session(self, name: str) -> None:
        self.notice.hide()
        self._note.setText("")
        try:
            session = self._stats.session(name)
        except NibbleError as error:
            self._show_choices()  # one that was moved aside is no longer among them; this session is
            session = self._stats.session(THIS_SESSION)
            self.notice.show_notice(error.message, error.hint)
        if session.notice:
            self.notice.show_notice(session.notice)
        self._show(session)

    def _show(self, session: ShownSession) -> None:
        was_empty = not self._shown.rows
        self._shown = session
        self._delete.setVisible(self._choice.currentData() != THIS_SESSION)
        self._table.set_rows(session.rows)
        self._summary.setText(summary(session.rows))
        self._summary.setVisible(bool(session.rows))
        self._speed.set_plot(speed_plot(session.rows))
        self._memory.set_plot(memory_plot(session.rows))
        self._pages.setCurrentWidget(self._content if session.rows else self._empty)
        self._save.setEnabled(bool(session.rows))
        self._export.setEnabled(bool(session.rows))
        if was_empty and session.rows:
            self._view.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
            self._view.setColumnWidth(CHAT_COLUMN, CHAT_WIDTH)
            self._is_fitted = False
        if session.rows:
            self._widen_columns()

    def _widen_columns(self) -> None:
        """Give every figure room; what the person has widened stays."""
        header = self._view.horizontalHeader()
        for column in range(header.count()):
            needed = max(self._view.sizeHintForColumn(column), header.sectionSizeHint(column))
            if column != CHAT_COLUMN and (header.sectionSize(column) < needed or not self._is_fitted):
                header.resizeSection(column, needed)
        self._is_fitted = True


def _button(object_name: str, text: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(object_name)
    button.setAccessibleName(text.rstrip("…"))
    button.setAutoDefault(False)
    return button
