"""The session's figures in their window, driven through its own widgets."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from PySide6.QtCore import QPoint, QPointF, QSize, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QComboBox, QFileDialog, QLabel, QMessageBox, QPushButton, QTableView, QWidget

from app.chat.options import CacheMode
from app.stats.history import SessionHistory
from app.ui.scatter_plot import ScatterPlot
from app.ui.stats_window import StatsWindow
from app.viewmodels.session_stats import SessionStats
from app.viewmodels.stats_table import HEADINGS
from tests.chat_parts import FIGURES, ScriptedEngine
from tests.stats.test_export import MACHINE
from tests.viewmodels.test_stats_table import ROWS

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints")  # the offscreen plugin's own remark


class Parts:
    """The window and what is in it."""

    def __init__(self, stats: SessionStats) -> None:
        self.stats = stats
        self.window = window = StatsWindow(stats)
        self.table = window.findChild(QTableView, "stats_table")
        self.session = window.findChild(QComboBox, "stats_session")
        self.speed = window.findChild(ScatterPlot, "stats_speed_plot")
        self.memory = window.findChild(ScatterPlot, "stats_memory_plot")
        self.save = window.findChild(QPushButton, "stats_save_plots")
        self.export = window.findChild(QPushButton, "stats_export")
        self.note = window.findChild(QLabel, "stats_note")
        self.notice = window.findChild(QLabel, "notice_message")

    def add_rows(self) -> None:
        for row in ROWS:
            self.stats.add(row.chat_title, row.figures)

    def column(self, heading: str) -> list[str]:
        model, at = self.table.model(), HEADINGS.index(heading)
        return [model.index(i, at).data() for i in range(model.rowCount())]

    def choose(self, index: int) -> None:
        self.session.setCurrentIndex(index)
        self.session.activated.emit(index)

    def answer(self, path) -> None:
        dialog = self.window.findChildren(QFileDialog, "export_dialog")[-1]
        dialog.fileSelected.emit(str(path))
        dialog.close()


@pytest.fixture
def folder(tmp_path):
    history = SessionHistory(tmp_path / "sessions", lambda: datetime(2026, 11, 26, 12, tzinfo=UTC))
    for row in ROWS[:2]:
        history.append(replace(row, chat_title="Yesterday"), MACHINE)
    return tmp_path / "sessions"


@pytest.fixture
def parts(qtbot, folder):
    engine = ScriptedEngine()
    engine.machine = MACHINE
    parts = Parts(SessionStats(engine, SessionHistory(folder)))
    qtbot.addWidget(parts.window)
    parts.window.show()
    return parts


def test_without_replies_it_says_what_to_do_and_leads_there(parts, qtbot):
    empty = parts.window.findChild(QWidget, "stats_empty")
    assert empty.isVisible()
    assert "Send a message to begin" in empty.accessibleName()
    assert not parts.save.isEnabled()
    assert not parts.export.isEnabled()
    with qtbot.waitSignal(parts.window.chat_asked):
        qtbot.mouseClick(parts.window.findChild(QPushButton, "stats_to_chat"), Qt.MouseButton.LeftButton)


def test_replies_appear_as_they_end(parts):
    parts.add_rows()
    assert not parts.window.findChild(QWidget, "stats_empty").isVisible()
    assert parts.column("Chat") == ["Chat", "second", "Third"]
    assert "3 replies" in parts.window.findChild(QLabel, "stats_summary").text()
    assert [s.mode for s in parts.memory.plot().series] == [CacheMode.INT4, CacheMode.FP16]
    assert parts.export.isEnabled()


def test_a_click_on_a_heading_sorts_by_the_figure_and_holds_for_what_comes(parts, qtbot):
    parts.add_rows()
    header = parts.table.horizontalHeader()
    place = header.sectionViewportPosition(HEADINGS.index("Context")) + 10
    qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(place, 8))
    assert parts.column("Context") == ["80", "900", "1,000"]
    parts.stats.add("Late", replace(FIGURES, cache=replace(FIGURES.cache, tokens=500)))
    assert parts.column("Context") == ["80", "500", "900", "1,000"]


def test_every_figure_has_room(parts):
    parts.add_rows()
    for column in range(len(HEADINGS)):
        if HEADINGS[column] != "Chat":
            assert parts.table.columnWidth(column) >= parts.table.sizeHintForColumn(column)


def test_an_earlier_session_is_shown_and_this_one_goes_on_behind(parts):
    assert parts.session.count() == 2
    parts.choose(1)
    assert parts.column("Chat") == ["Yesterday", "Yesterday"]
    parts.add_rows()
    assert parts.column("Chat") == ["Yesterday", "Yesterday"]
    parts.choose(0)
    assert parts.column("Chat") == ["Chat", "second", "Third"]


def test_an_earlier_session_is_deleted_once_confirmed(parts, folder, qtbot):
    delete = parts.window.findChild(QPushButton, "stats_delete")
    assert not delete.isVisible()
    parts.choose(1)
    for answer, left in (("Cancel", 1), ("Delete", 0)):
        qtbot.mouseClick(delete, Qt.MouseButton.LeftButton)
        dialog = parts.window.findChildren(QMessageBox, "delete_session_dialog")[-1]
        (button,) = [b for b in dialog.buttons() if b.text().strip("&") == answer]
        button.click()
        assert len(list(folder.iterdir())) == left
    assert parts.session.count() == 1
    assert not delete.isVisible()


def test_a_broken_session_is_moved_aside_and_said(parts, folder):
    (file,) = folder.iterdir()
    file.write_text("broken")
    parts.choose(1)
    assert "broken" in parts.notice.text()
    assert parts.notice.isVisible()
    assert parts.session.count() == 1
    assert parts.window.findChild(QWidget, "stats_empty").isVisible()
    assert [f.read_text() for f in folder.iterdir()] == ["broken"]


def test_a_session_that_is_broken_in_part_shows_the_rest(parts, folder):
    (file,) = folder.iterdir()
    file.write_text(file.read_text()[:-30])
    parts.choose(1)
    assert parts.column("Chat") == ["Yesterday"]
    assert "1 of 2 replies" in parts.notice.text()
    parts.choose(0)
    assert not parts.notice.isVisible()


def test_what_is_shown_is_exported(parts, tmp_path, qtbot):
    parts.choose(1)
    for name in ("a.json", "a.md", "a.csv"):
        qtbot.mouseClick(parts.export, Qt.MouseButton.LeftButton)
        parts.answer(tmp_path / name)
        assert str(tmp_path / name) in parts.note.text()
    titles = [r["chat_title"] for r in json.loads((tmp_path / "a.json").read_text())["replies"]]
    assert titles == ["Yesterday", "Yesterday"]
    assert "| Yesterday |" in (tmp_path / "a.md").read_text()
    qtbot.mouseClick(parts.export, Qt.MouseButton.LeftButton)
    parts.answer(tmp_path / "none" / "a.csv")
    assert "could not be written" in parts.notice.text()


def test_plots_are_saved_as_one_sharp_picture(parts, tmp_path, qtbot):
    parts.add_rows()
    qtbot.mouseClick(parts.save, Qt.MouseButton.LeftButton)
    parts.answer(tmp_path / "plots.png")
    picture = QImage(str(tmp_path / "plots.png"))
    assert picture.size() == parts.window.findChild(QWidget, "stats_plots").size() * 2
    colours = {picture.pixel(x, y) for x in range(0, picture.width(), 3) for y in range(0, picture.height(), 3)}
    assert len(colours) > 3
    parts.window.save_plots(tmp_path / "none" / "plots.png")
    assert "could not be written" in parts.notice.text()


def test_a_plot_says_the_mark_under_the_pointer_and_all_of_it_elsewhere(parts):
    parts.add_rows()
    parts.memory.resize(QSize(400, 240))
    mark = parts.memory.plot().series[1].marks[0]
    frame = parts.memory._frame()
    at = QPointF(frame.left() + mark.x * frame.width() + 3, frame.bottom() - mark.y * frame.height() - 3)
    assert parts.memory.text_at(at) == mark.text
    assert parts.memory.text_at(QPointF(0, 0)) == parts.memory.accessibleDescription() == parts.memory.plot().text


def test_modes_differ_in_shape(parts):
    parts.add_rows()
    plot = parts.memory.plot()
    swapped = replace(
        plot,
        series=tuple(
            replace(s, mode=CacheMode.INT4 if s.mode is CacheMode.FP16 else CacheMode.FP16) for s in plot.series
        ),
    )
    grey = parts.memory.palette()
    grey.setColor(grey.ColorRole.Accent, grey.windowText().color())
    parts.memory.setPalette(grey)
    before = parts.memory.grab().toImage()
    parts.memory.set_plot(swapped)
    assert parts.memory.grab().toImage() != before


def test_every_control_has_a_name(parts):
    for widget in (parts.table, parts.session, parts.speed, parts.memory, parts.save, parts.export, parts.note):
        assert widget.objectName()
        assert widget.accessibleName()
