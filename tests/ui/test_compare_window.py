from dataclasses import replace

import pytest
from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QCheckBox, QLabel, QPlainTextEdit, QPushButton, QSpinBox, QTableWidget

from app.chat.figures import CacheFigures, MemoryFigures, ReplyFigures
from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions
from app.engine.protocol import Cancel, Failed, Finished, Generate, Token
from app.ui.compare_window import CompareWindow
from app.ui.reply_column import ReplyColumn
from app.ui.theme import marked

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints")  # the offscreen plugin's own remark

FP16 = CacheFigures(CacheMode.FP16, 32, "cpu", 400, 10_000_000, 12_800_000, 10_000_000, 12_800_000, 0, 24)
INT4 = replace(FP16, mode=CacheMode.INT4, used_bytes=2_812_500, allocated_bytes=3_600_000, layers_int4=24)


class ScriptedEngine(QObject):
    event_received = Signal(object)
    died = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.sent = []

    def send(self, request) -> None:
        self.sent.append(request)

    def new_request_id(self) -> str:
        return f"r{sum(isinstance(r, Generate) for r in self.sent) + 1}"


def reply(request_id: str, cache: CacheFigures, text: str, ids: tuple[int, ...], finish_reason: str = "stop"):
    figures = ReplyFigures(
        model="Starter",
        started_at="2026-01-01T00:00:00+00:00",
        requested_mode=cache.mode,
        cache=cache,
        memory=MemoryFigures(1, 2, 3),
        prompt_tokens=10,
        reused_tokens=0,
        prefilled_tokens=10,
        generated_tokens=len(ids),
        ttft_s=0.2,
        prefill_tokens_per_s=1500.0,
        decode_tokens_per_s=40.0,
        elapsed_s=1.0,
        context_limit_tokens=1024,
        seed=1,
        temperature=0.0,
        top_p=0.9,
        top_k=0,
        min_p=0.0,
        max_tokens=512,
        finish_reason=finish_reason,
    )
    return Finished(request_id, text, ids, figures)


@pytest.fixture
def engine(qapp):
    return ScriptedEngine()


@pytest.fixture
def window(engine, qtbot):
    window = CompareWindow(engine, "Starter", ChatOptions(), "Tell me a story")
    qtbot.addWidget(window)
    return window


def text_of(window: CompareWindow, name: str) -> str:
    return window.findChild(QPlainTextEdit, name).toPlainText()


def note_of(window: CompareWindow) -> str:
    return window.findChild(QLabel, "compare_note").text()


def run_through(engine: ScriptedEngine, window: CompareWindow, fp16: str, int4: str) -> None:
    window.start()
    first = engine.sent[-1].request_id
    engine.event_received.emit(Token(first, fp16[:3], (1,)))
    engine.event_received.emit(reply(first, FP16, fp16, (1, 2, 3)))
    second = engine.sent[-1].request_id
    engine.event_received.emit(Token(second, int4[:3], (1,)))
    engine.event_received.emit(reply(second, INT4, int4, (1, 2, 4)))


def test_one_command_runs_both_and_shows_texts_figures_and_where_they_part(engine, window):
    results = []
    window.compared.connect(results.append)
    run_through(engine, window, "A fox slept well.", "A fox ran home.")
    assert text_of(window, "compare_fp16_text") == "A fox slept well."
    assert text_of(window, "compare_int4_text") == "A fox ran home."
    assert window.findChild(ReplyColumn, "compare_fp16").marked_text() == "slept"
    assert window.findChild(ReplyColumn, "compare_int4").marked_text() == "ran"
    assert "the same for 6 characters" in note_of(window)
    table = window.findChild(QTableWidget, "compare_table")
    cells = {table.item(i, 0).text(): [table.item(i, j).text() for j in (1, 2, 3)] for i in range(table.rowCount())}
    assert cells["KV cache allocated"] == ["12.8 MB", "3.60 MB", "3.56x smaller"]
    assert cells["Texts part"][2] == "after 2 equal tokens"
    assert table.item(0, 1).toolTip()
    assert len(results) == 1


def test_the_prompt_can_be_edited_and_is_sent_as_it_stands(engine, window):
    window.findChild(QPlainTextEdit, "compare_prompt").setPlainText("  Another one  ")
    window.findChild(QCheckBox, "compare_greedy").setChecked(False)
    window.start()
    (request,) = engine.sent
    assert request.messages == (Message(Role.USER, "Another one"),)
    assert request.options.sampling.temperature == ChatOptions().sampling.temperature


def test_greedy_is_the_first_choice_and_the_conditions_say_so(engine, window):
    conditions = window.findChild(QLabel, "compare_conditions")
    assert conditions.text().startswith("Always the likeliest token")
    window.findChild(QCheckBox, "compare_greedy").setChecked(False)
    assert conditions.text().startswith("Temperature 0.7")


def test_an_empty_prompt_cannot_be_run(engine, window):
    window.findChild(QPlainTextEdit, "compare_prompt").setPlainText(" \n")
    assert not window.findChild(QPushButton, "compare_run").isEnabled()
    window.start()
    assert engine.sent == []


def test_the_button_stops_what_runs(engine, window, qtbot):
    button = window.findChild(QPushButton, "compare_run")
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert button.text() == button.accessibleName() == "Stop"
    assert window.findChild(QPlainTextEdit, "compare_prompt").isReadOnly()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert engine.sent[-1] == Cancel("r1")
    engine.event_received.emit(reply("r1", FP16, "A fo", (1,), "cancelled"))
    assert button.text() == "Run"
    assert note_of(window).startswith("Stopped.")
    assert text_of(window, "compare_fp16_text") == "A fo"
    assert not window.findChild(QPushButton, "compare_copy").isEnabled()


def test_escape_stops_first_and_closes_second(engine, window, qtbot):
    with qtbot.waitExposed(window):
        window.show()
    window.start()
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert window.isVisible()
    assert engine.sent[-1] == Cancel("r1")
    engine.event_received.emit(reply("r1", FP16, "", (), "cancelled"))
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not window.isVisible()


def test_closing_stops_what_runs(engine, window, qtbot):
    with qtbot.waitExposed(window):
        window.show()
    window.start()
    window.close()
    assert not window.isVisible()
    assert engine.sent[-1] == Cancel("r1")


def test_a_failure_is_shown_with_its_hint_and_can_be_tried_again(engine, window):
    window.start()
    engine.event_received.emit(Failed("r1", "The prompt is too long.", "Shorten it."))
    assert note_of(window) == "The prompt is too long. Shorten it."
    run_through(engine, window, "Same.", "Same.")
    assert note_of(window) == "Both replies are the same, to the last character."
    assert window.findChild(ReplyColumn, "compare_fp16").marked_text() == ""


def test_a_second_run_starts_from_empty_columns(engine, window):
    run_through(engine, window, "A fox slept.", "A fox ran.")
    window.start()
    assert text_of(window, "compare_fp16_text") == text_of(window, "compare_int4_text") == ""
    assert window.findChild(QTableWidget, "compare_table").item(0, 1).text() == "–"
    assert not window.findChild(QPushButton, "compare_export").isEnabled()


def test_repeating_shows_medians_with_their_spread_and_exports_every_round(engine, window, qtbot):
    window.findChild(QSpinBox, "compare_rounds").setValue(3)
    speeds = iter((40.0, 30.0, 20.0, 50.0, 44.0, 10.0))  # fp16 int4, int4 fp16, fp16 int4
    window.start()
    assert not window.findChild(QSpinBox, "compare_rounds").isEnabled()
    while isinstance(engine.sent[-1], Generate) and len(engine.sent) <= 6:
        request = engine.sent[-1]
        cache = FP16 if request.options.cache_mode is CacheMode.FP16 else INT4
        text = "A fox slept." if cache is FP16 else "A fox ran."
        finished = reply(request.request_id, cache, text, (1, 2, 3))
        figures = replace(finished.figures, decode_tokens_per_s=next(speeds))
        engine.event_received.emit(replace(finished, figures=figures))
        if request is engine.sent[-1]:
            break
    table = window.findChild(QTableWidget, "compare_table")
    cells = {table.item(i, 0).text(): [table.item(i, j).text() for j in (1, 2, 3)] for i in range(table.rowCount())}
    assert cells["Decode speed"] == ["44.0 tokens/s (40.0 to 50.0)", "20.0 tokens/s (10.0 to 30.0)", "−54.5 %"]
    assert cells["KV cache allocated"][0] == "12.8 MB"
    assert "medians of 3 rounds" in note_of(window)
    assert window.findChild(ReplyColumn, "compare_int4").marked_text() == "ran"
    with qtbot.waitSignal(window.export_requested) as asked:
        qtbot.mouseClick(window.findChild(QPushButton, "compare_export"), Qt.MouseButton.LeftButton)
    assert [f.cache.mode for f in asked.args[0]] == [CacheMode.FP16, CacheMode.INT4] * 3


def test_the_table_is_copied_as_markdown(engine, window, qtbot):
    run_through(engine, window, "A fox slept.", "A fox ran.")
    qtbot.mouseClick(window.findChild(QPushButton, "compare_copy"), Qt.MouseButton.LeftButton)
    assert "| KV cache allocated | 12.8 MB | 3.60 MB | 3.56x smaller |" in QGuiApplication.clipboard().text()


def test_export_hands_over_both_replies_figures(engine, window, qtbot):
    run_through(engine, window, "A fox slept.", "A fox ran.")
    with qtbot.waitSignal(window.export_requested) as asked:
        qtbot.mouseClick(window.findChild(QPushButton, "compare_export"), Qt.MouseButton.LeftButton)
    (rows,) = asked.args
    assert [row.cache.mode for row in rows] == [CacheMode.FP16, CacheMode.INT4]


@pytest.mark.parametrize(
    ("text", "position", "marked"),
    [
        ("🦊🦊 ran home", 3, "ran"),
        ("A fox", 5, "x"),
        ("A fox", 1, " "),
        ("", 0, ""),
        ("a\r\nfox", 3, "fox"),
    ],
)
def test_the_mark_stands_where_the_texts_part(qtbot, text, position, marked):
    column = ReplyColumn(CacheMode.INT4)
    qtbot.addWidget(column)
    column.set_text(text)
    column.mark(position, "here")
    assert column.marked_text() == marked


def test_a_column_takes_text_that_does_not_go_on_from_what_it_shows(qtbot):
    column = ReplyColumn(CacheMode.FP16)
    qtbot.addWidget(column)
    column.set_text("A fo")
    column.set_text("A fox")
    column.set_text("Another")
    assert column.text() == "Another"


def test_the_mark_stays_readable_when_the_window_turns_dark(qtbot):
    column = ReplyColumn(CacheMode.FP16)
    qtbot.addWidget(column)
    column.set_text("A fox ran")
    column.mark(2, "here")
    dark = QPalette()
    dark.setColor(QPalette.ColorRole.Base, QColor(20, 20, 20))
    dark.setColor(QPalette.ColorRole.Accent, QColor(80, 150, 255))
    column.setPalette(dark)
    (selection,) = column.findChild(QPlainTextEdit).extraSelections()
    assert selection.format.background().color() == marked(dark)
    assert selection.format.fontUnderline()
    assert column.marked_text() == "fox"


def test_every_control_has_a_name_for_tests_and_one_for_people(window):
    kinds = (QPushButton, QCheckBox, QSpinBox, QPlainTextEdit, QTableWidget)
    controls = [control for kind in kinds for control in window.findChildren(kind)]
    assert len(controls) == 9
    assert all(control.objectName() and control.accessibleName() for control in controls)
