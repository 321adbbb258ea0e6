"""The quality window by itself, and in the whole window over the fake engine's own process."""

import json
from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QLabel,
    QProgressBar,
    QPushButton,
    QTableView,
    QWidget,
)

from app.chat.quality import Effort, TextKind, TextSource
from app.engine.protocol import Cancel, Failed, Measure, Measured, Measuring
from app.store.store import MessageState
from app.ui.quality_window import QualityWindow
from app.viewmodels.reply import ChatState
from tests.chat_parts import MODEL, ScriptedEngine
from tests.quality_parts import REASON, REPORT


@pytest.fixture
def engine(qapp):
    return ScriptedEngine()


@pytest.fixture
def window(engine, qtbot):
    window = QualityWindow(engine, MODEL, 32)
    qtbot.addWidget(window)
    with qtbot.waitExposed(window):
        window.show()
    yield window
    window.close()


class Parts:
    """What a person sees of a quality window."""

    def __init__(self, window: QWidget) -> None:
        self.window = window
        self.text, self.effort = (window.findChild(QComboBox, f"quality_{name}") for name in ("text", "effort"))
        self.button, self.copy, self.export = (
            window.findChild(QPushButton, f"quality_{name}") for name in ("run", "copy", "export")
        )
        self.table = window.findChild(QTableView, "quality_table")

    def label(self, name: str) -> str:
        return self.window.findChild(QLabel, name).text()

    def page(self) -> str:
        return next(
            n for n in ("empty", "running", "report") if self.window.findChild(QWidget, f"quality_{n}").isVisible()
        )

    def first_column(self) -> list[str]:
        model = self.table.model()
        return [model.index(i, 0).data() for i in range(model.rowCount())]


@pytest.fixture
def parts(window):
    return Parts(window)


def run_through(engine: ScriptedEngine, window: QualityWindow) -> None:
    window.start()
    engine.event_received.emit(Measured(engine.sent[-1].request_id, REPORT))


def test_at_first_it_says_what_it_does_and_what_it_costs(parts):
    assert parts.page() == "empty"
    assert parts.label("quality_empty_title") == "What does int4 cost this model?"
    assert "about 52,000 tokens" in parts.label("quality_cost")
    parts.effort.setCurrentIndex(0)
    assert "about 17,000 tokens" in parts.label("quality_cost")
    assert not parts.copy.isEnabled()
    assert not parts.export.isEnabled()


def test_text_and_effort_are_asked_for_as_chosen(engine, parts, qtbot):
    parts.text.setCurrentIndex(1)
    parts.text.activated.emit(1)
    parts.effort.setCurrentIndex(2)
    qtbot.mouseClick(parts.button, Qt.MouseButton.LeftButton)
    assert engine.sent == [Measure("r1", TextSource(TextKind.CHAT), Effort(5, 1024))]


def test_a_file_of_ones_own_joins_the_list_and_is_chosen(engine, window, parts, tmp_path):
    last = parts.text.count() - 1
    parts.text.setCurrentIndex(last)
    parts.text.activated.emit(last)
    assert parts.text.currentText() == "Bundled prose", "until a file is chosen"
    dialog = window.findChild(QFileDialog, "text_dialog")
    dialog.fileSelected.emit(str(tmp_path / "novel.txt"))
    dialog.close()
    assert parts.text.currentText() == "novel.txt"
    window.start()
    assert engine.sent[-1].text == TextSource(TextKind.FILE, str(tmp_path / "novel.txt"))


def test_progress_is_shown_and_nothing_else_can_be_chosen_meanwhile(engine, window, parts):
    bar = window.findChild(QProgressBar, "quality_progress")
    window.start()
    assert parts.page() == "running"
    assert bar.maximum() == 0, "waiting for the engine"
    engine.event_received.emit(Measuring("r1", 0.5, "window 2 of 3, ours g32"))
    assert bar.value() * 2 == bar.maximum()
    assert parts.label("quality_step") == "Window 2 of 3, ours g32"
    assert parts.label("quality_remaining").startswith("50%")
    assert parts.button.text() == parts.button.accessibleName() == "Cancel"
    assert not parts.text.isEnabled()
    assert not parts.effort.isEnabled()


def test_the_report_is_a_table_with_the_row_in_use_marked_in_words(engine, window, parts):
    run_through(engine, window)
    assert parts.page() == "report"
    assert parts.label("quality_headline").startswith("int4 agrees with fp16 on the likeliest next token 90.0%")
    assert parts.first_column() == ["fp16", "plain int4", "ours g32 (in use)", "ours g64"]
    assert f"fp16 in ours, layers 3: {REASON}." in parts.label("quality_layers")
    assert parts.label("quality_model") == "Qwen3-4B", "the model that was measured"
    assert parts.button.text() == "Start"


def test_a_heading_sorts_and_a_new_report_has_its_own_order_again(engine, window, parts, qtbot):
    run_through(engine, window)
    header = parts.table.horizontalHeader()
    at = header.sectionViewportPosition(1) + 5
    qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(at, 5))
    assert parts.first_column() == ["plain int4", "ours g64", "ours g32 (in use)", "fp16"]
    run_through(engine, window)
    assert parts.first_column()[0] == "fp16"


def test_escape_cancels_first_and_closes_second_and_the_report_before_stays(engine, window, parts, qtbot):
    run_through(engine, window)
    window.start()
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert window.isVisible()
    assert engine.sent[-1] == Cancel("r2")
    engine.event_received.emit(Failed("r2", "Measuring was stopped."))
    assert parts.label("quality_note") == "Cancelled."
    assert parts.page() == "report"
    assert not window.notice.isVisible()
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not window.isVisible()


def test_closing_cancels(engine, window):
    window.start()
    window.close()
    assert engine.sent[-1] == Cancel("r1")


def test_a_failure_is_shown_with_its_hint_and_goes_with_the_next_run(engine, window, parts):
    window.start()
    engine.event_received.emit(Failed("r1", "The text is too short.", "Choose a longer one."))
    assert window.notice.isVisible()
    assert window.notice.message == "The text is too short."
    assert parts.page() == "empty"
    run_through(engine, window)
    assert not window.notice.isVisible()


def test_the_report_is_copied_as_markdown(engine, window, parts, qtbot):
    run_through(engine, window)
    qtbot.mouseClick(parts.copy, Qt.MouseButton.LeftButton)
    assert "| ours g32 (in use) | 4.50 |" in QGuiApplication.clipboard().text()
    assert parts.label("quality_note") == "The table is on the clipboard."


def test_the_report_is_written_and_a_refusal_said(engine, window, parts, tmp_path):
    run_through(engine, window)
    for target in ("quality.json", "none/quality.csv"):
        parts.export.click()
        dialog = window.findChildren(QFileDialog, "export_dialog")[-1]
        dialog.fileSelected.emit(str(tmp_path / target))
        dialog.close()
    assert json.loads((tmp_path / "quality.json").read_text())["reports"][0]["model"]["name"] == "Qwen3-4B"
    assert "could not be written" in window.notice.message


def test_every_control_has_a_name_for_tests_and_one_for_people(window):
    kinds = (QPushButton, QComboBox, QTableView, QProgressBar)
    controls = [control for kind in kinds for control in window.findChildren(kind)]
    assert len(controls) == 10
    assert all(control.objectName() and control.accessibleName() for control in controls)


# In the whole window.


def open_quality(driver) -> Parts:
    driver.window.actions_.quality.trigger()
    return Parts(driver.find("quality_window", QualityWindow))


def load(driver, folder) -> None:
    folder.mkdir()
    driver.session.load_model(str(folder))
    driver.until_idle()


@pytest.mark.qt_log_ignore("does not support raise")  # the offscreen plugin's own remark
def test_quality_is_measured_from_the_menu(driver):
    parts = open_quality(driver)
    parts.button.click()
    driver.until(lambda: parts.page() == "report")
    assert "ours g32 (in use)" in parts.first_column()
    driver.window.actions_.quality.trigger()
    assert len(driver.window.findChildren(QualityWindow)) == 1, "one window, brought to the front"


def test_the_row_in_use_is_that_of_the_chats_group_size(driver):
    driver.session.set_options(replace(driver.session.options, group_size=64))
    parts = open_quality(driver)
    parts.button.click()
    driver.until(lambda: parts.page() == "report")
    assert [name for name in parts.first_column() if "in use" in name] == ["ours g64 (in use)"]


def test_a_message_waits_while_quality_is_measured_and_closing_lets_it_through(driver, tmp_path):
    load(driver, tmp_path / "slow [measure-ms 200]")
    parts = open_quality(driver)
    parts.button.click()
    driver.until(lambda: parts.label("quality_step").startswith("Window"))
    driver.say("Hello [tokens 5]")
    driver.until(lambda: parts.label("quality_remaining")[:1] in set("123456789"))
    assert driver.session.state is ChatState.PREFILL
    parts.window.close()
    driver.until_idle()
    assert driver.session.messages[-1].state is MessageState.COMPLETE


def test_an_engine_that_dies_while_measuring_is_told_in_both_windows_and_restarted(driver, tmp_path):
    load(driver, tmp_path / "bad day [abort measure]")
    parts = open_quality(driver)
    parts.button.click()
    driver.until(lambda: driver.session.state is ChatState.FAILED)
    assert "aborted" in parts.window.notice.message
    assert parts.button.text() == "Start"
    driver.click("restart_engine")
    driver.until_idle()
    assert driver.session.state is ChatState.IDLE


def test_quality_needs_a_model(program_of):
    program = program_of()
    assert not program.window.actions_.quality.isEnabled()
    program.window.commands.measure_quality()
    assert program.window.findChild(QualityWindow) is None
