"""A comparison is kept with its conversation, shown again, and part of the session's export."""

import json

from PySide6.QtWidgets import QFileDialog, QLabel, QPlainTextEdit, QSpinBox, QTableWidget

from app.ui.compare_window import CompareWindow
from app.ui.reply_column import ReplyColumn
from tests.ui.window_driver import Driver

PROMPT = "Tell me a story [tokens 20] [part 5]"


def open_compare(driver: Driver) -> CompareWindow:
    driver.window.actions_.compare.trigger()
    return driver.window.findChildren(CompareWindow)[-1]


def compare(driver: Driver, rounds: int = 1) -> CompareWindow:
    window = open_compare(driver)
    window.findChild(QSpinBox, "compare_rounds").setValue(rounds)
    compared = []
    window.compared.connect(compared.append)
    window.start()
    driver.until(lambda: compared)
    return window


def text_of(window: CompareWindow, name: str) -> str:
    return window.findChild(QPlainTextEdit, name).toPlainText()


def cells(window: CompareWindow) -> list[str]:
    table = window.findChild(QTableWidget, "compare_table")
    return [table.item(i, j).text() for i in range(table.rowCount()) for j in range(4)]


def test_it_is_there_again_with_its_conversation_and_only_there(driver, program_of, loop):
    driver.chat(PROMPT)
    made = compare(driver, rounds=3)
    shown = text_of(made, "compare_int4_text"), cells(made)
    made.close()
    again = open_compare(driver)
    assert (text_of(again, "compare_int4_text"), cells(again)) == shown
    assert again.findChild(ReplyColumn, "compare_int4").marked_text() == "otherwise"
    note = again.findChild(QLabel, "compare_note").text()
    assert note.startswith("Kept from ")
    assert "medians of 3 rounds" in note
    again.close()
    driver.window.composer.write("A draft of something else")
    assert text_of(open_compare(driver), "compare_int4_text") == ""
    driver.window.composer.write("")
    driver.session.new_chat()
    assert text_of(open_compare(driver), "compare_int4_text") == ""


def test_the_next_start_has_it_until_the_conversation_is_gone(driver, program_of):
    driver.chat(PROMPT)
    conversation_id = driver.session.conversation.id
    compare(driver).close()
    assert program_of().models.comparisons.latest(conversation_id).prompt == PROMPT
    driver.program.store.delete(conversation_id)
    assert program_of().models.comparisons.latest(conversation_id) is None


def test_one_without_a_conversation_lasts_for_the_session(driver, tmp_path):
    driver.window.composer.write(PROMPT)
    compare(driver, rounds=2)
    assert driver.program.models.comparisons.latest(None) is None
    target = tmp_path / "stats.json"
    driver.window.actions_.export.trigger()
    dialog = driver.find("export_dialog", QFileDialog)
    dialog.fileSelected.emit(str(target))
    dialog.close()
    data = json.loads(target.read_text())
    assert len(data["replies"]) == 4
    (kept,) = data["comparisons"]
    assert (kept["prompt"], kept["rounds"], kept["first_different_token"]) == (PROMPT, 2, 5)
    speeds = sorted(row["decode_tokens_per_s"] for row in data["replies"] if row["requested_mode"] == "int4")
    assert speeds[0] <= kept["medians"]["int4"]["decode_tokens_per_s"] <= speeds[1]
    assert kept["medians"]["fp16"]["kv_saving_ratio"] == 1.0


def test_a_full_disk_costs_the_keeping_and_nothing_else(driver, tmp_path):
    driver.chat(PROMPT)
    (tmp_path / "home").mkdir()
    driver.program.models.comparisons._file._path = tmp_path / "home"
    window = compare(driver)
    assert "could not be kept" in window.findChild(QLabel, "compare_note").text()
    assert text_of(window, "compare_int4_text")
