"""The whole window over the fake engine's own process."""

import csv
import json
import re
from dataclasses import replace

import pytest
from PySide6.QtCore import QEvent, QModelIndex, Qt, QUrl
from PySide6.QtGui import QAction, QDesktopServices, QGuiApplication
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QFileDialog,
    QInputDialog,
    QLabel,
    QMessageBox,
)

from app.chat.options import CacheMode
from app.errors import NibbleError
from app.main import run
from app.paths import default_paths
from app.settings.file import load_settings
from app.store.store import MessageState, Store
from app.ui.compare_window import CompareWindow
from app.ui.main_window import window_title
from app.ui.models_window import ModelsWindow
from app.ui.quit_filter import QuitFilter
from app.viewmodels.reply import ChatState
from tests.ui.window_driver import Driver


def test_first_start_says_what_the_starter_is_and_what_to_do(driver):
    text = driver.find("starter_text", QLabel).text()
    assert "for trying Nibble out; do not trust what it says" in text
    assert "Get a real model…" in text
    assert driver.find("empty_state").isVisible()
    assert "it knows nothing" in driver.find("empty_text", QLabel).text()
    assert driver.find("conversations_empty", QLabel).text() == "Your chats appear here."
    driver.click("suggestion_0")
    driver.click("send")
    driver.until_idle()
    assert len(driver.texts()) == 2
    assert not driver.find("empty_state").isVisible()


def test_the_starter_leads_to_a_real_model_until_one_is_open(driver, tmp_path):
    ways = (
        lambda: driver.click("empty_get_model"),
        lambda: driver.find("starter_text", QLabel).linkActivated.emit("get"),
        driver.window.actions_.models.trigger,
    )
    for way in ways:
        way()
        window = driver.find("models_window", ModelsWindow)
        assert window.isVisible()
        window.close()
        driver.until(lambda: driver.window.findChild(ModelsWindow) is None)
    (tmp_path / "Qwen3-4B").mkdir()
    driver.session.load_model(str(tmp_path / "Qwen3-4B"))
    driver.until_idle()
    assert not driver.find("empty_get_model").isVisible()
    assert driver.find("empty_title", QLabel).text() == "What shall we talk about?"


def test_a_chat_with_its_live_figures(driver):
    driver.chat("Hello [tokens 12]")
    assert driver.texts()[0] == "Hello [tokens 12]"
    assert len(driver.texts()[1].split()) == 12
    assert driver.find("panel_headline", QLabel).text() == "3.56x smaller than fp16"
    assert "3.56x smaller" in driver.window.transcript.views[1].status_text
    assert driver.window.windowTitle() == window_title("Hello [tokens 12]")
    assert driver.window.sidebar.list.currentIndex().data() == "Hello [tokens 12]"


def test_a_macs_title_does_not_repeat_the_programs_name():
    assert window_title("Foxes", "darwin") == "Foxes"
    assert window_title("Foxes", "linux") == "Foxes – Nibble"


def test_the_cache_mode_is_switched_in_the_chat(driver):
    driver.click("cache_fp16")
    driver.chat("Hello")
    assert driver.session.messages[-1].figures.cache.mode is CacheMode.FP16
    assert driver.find("panel_headline", QLabel).text() == "Held in fp16: nothing saved"
    driver.window.actions_.new_chat.trigger()
    assert driver.find("cache_int4", QAbstractButton).isChecked()


def test_prefill_progress_is_shown_and_stopped(driver):
    driver.say("word " * 1200 + "[prefill-ms 100]")
    driver.until(lambda: re.match(r"Reading [1-9]\d* of 1,20\d", driver.window.composer.status_text))
    driver.click("send")
    driver.until_idle()
    assert driver.session.messages[-1].state is MessageState.CANCELLED
    driver.chat("word " * 200 + "[prefill-ms 0]")
    assert driver.session.messages[-1].state is MessageState.COMPLETE


def test_escape_stops_the_reply_and_keeps_its_text(driver, qtbot):
    driver.say("Hello [tokens 4000] [token-ms 5]")
    driver.until(lambda: driver.session.state is ChatState.DECODING and len(driver.texts()[1].split()) > 3)
    qtbot.keyClick(driver.window.composer.edit, Qt.Key.Key_Escape)
    driver.until_idle()
    assert "Stopped" in driver.window.transcript.views[1].status_text
    assert len(driver.texts()[1].split()) > 3


def test_what_the_store_refuses_stays_in_the_field(driver, monkeypatch):
    driver.chat("Hello")

    def refuse(*_: object) -> None:
        raise NibbleError("disk full")

    monkeypatch.setattr(driver.program.store, "add_message", refuse)
    driver.say("Next")
    assert driver.find("notice_message", QLabel).text() == "disk full"
    assert driver.window.composer.text == "Next"
    driver.window.actions_.edit_last.trigger()
    driver.say("Goodbye")
    assert driver.window.composer.text == "Goodbye"
    assert driver.window.composer.is_editing
    assert driver.texts()[0] == "Hello"


def test_regenerate_and_edit_from_the_transcript(driver):
    driver.chat("Hello")
    first = driver.session.messages[-1].id
    driver.click(f"regenerate_{first}")
    driver.until_idle()
    assert len(driver.texts()) == 2
    driver.click(f"edit_message_{driver.session.messages[0].id}")
    assert driver.window.composer.text == "Hello"
    driver.chat("Goodbye")
    assert [text for text in driver.texts() if text in ("Hello", "Goodbye")] == ["Goodbye"]


def test_conversations_are_opened_renamed_searched_and_deleted(driver):
    driver.chat("About foxes")
    driver.window.actions_.new_chat.trigger()
    driver.chat("About lanterns")
    conversations = driver.program.models.conversations
    sidebar = driver.window.sidebar
    sidebar.list.clicked.emit(conversations.index(2))
    assert driver.texts()[0] == "About foxes"

    driver.window.actions_.rename.trigger()
    dialog = driver.find("rename_dialog", QInputDialog)
    dialog.setTextValue("Foxes")
    dialog.accept()
    assert driver.window.windowTitle() == window_title("Foxes")

    sidebar.search.setText("lanterns")
    assert [c.title for c in conversations.conversations] == ["About lanterns"]
    sidebar.search.setText("")

    driver.window.actions_.delete.trigger()
    assert [c.title for c in conversations.conversations] == ["About lanterns"]
    assert driver.find("empty_state").isVisible()
    assert driver.window.sidebar.list.currentIndex() == QModelIndex()


def test_the_chat_is_copied_as_markdown(driver):
    assert not driver.window.actions_.copy_chat.isEnabled()
    driver.chat("Hello [markdown]")
    driver.window.actions_.copy_chat.trigger()
    text = QGuiApplication.clipboard().text()
    assert text.startswith("# Hello [markdown]\n\n**You**\n\nHello [markdown]\n\n**Nibble**\n\n# A heading")
    assert driver.find("notice_message", QLabel).text() == "The chat was copied as Markdown."


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_session_stats_are_exported(driver, tmp_path, suffix):
    assert not driver.window.actions_.export.isEnabled()
    driver.chat("One")
    driver.chat("Two")
    target = tmp_path / f"stats.{suffix}"
    driver.window.actions_.export.trigger()
    dialog = driver.find("export_dialog", QFileDialog)
    dialog.fileSelected.emit(str(target))
    dialog.close()
    text = target.read_text()
    rows = list(csv.DictReader(text.splitlines())) if suffix == "csv" else json.loads(text)["replies"]
    assert len(rows) == 2
    assert driver.find("notice_message", QLabel).text() == f"The figures were written to {target}."


def test_compare_runs_both_modes_and_counts_among_the_stats(driver, tmp_path):
    driver.window.composer.write("Tell me a story [tokens 20] [part 5]")
    driver.window.actions_.compare.trigger()
    window = driver.window.findChild(CompareWindow)
    compared = []
    window.compared.connect(compared.append)
    window.start()
    driver.until(lambda: compared)
    assert compared[0].comparison.first_different_token == 5
    modes = [row.figures.cache.mode for row in driver.program.models.stats.rows]
    assert modes == [CacheMode.FP16, CacheMode.INT4]
    assert driver.session.messages == ()
    note = window.findChild(QLabel, "compare_note")
    for target, says in ((tmp_path / "nowhere" / "a.csv", "could not be written"), (tmp_path / "a.csv", "written to")):
        window.findChild(QAbstractButton, "compare_export").click()
        dialog = window.findChildren(QFileDialog)[-1]
        dialog.fileSelected.emit(str(target))
        dialog.close()
        assert says in note.text()
    assert not driver.find("notice_bar").isVisible()


def test_settings_are_for_new_chats_and_kept(driver):
    driver.window.actions_.settings.trigger()
    dialog = driver.find("settings_dialog")
    chat = replace(driver.program.models.settings.settings.chat, group_size=64)
    dialog.applied.emit(replace(driver.program.models.settings.settings, chat=chat))
    assert driver.session.options.group_size == 64
    assert load_settings(default_paths().settings_file).settings.chat.group_size == 64


def test_the_live_panel_can_be_hidden_and_stays_so(driver, program_of):
    assert driver.window.panel.isVisible()
    driver.window.actions_.panel.trigger()
    assert not driver.window.panel.isVisible()
    assert not driver.find("panel_toggle", QAbstractButton).isChecked()
    assert not load_settings(default_paths().settings_file).settings.show_panel


def test_links_are_opened_only_after_a_question_and_only_on_the_web(driver, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    driver.window.commands.follow_link(QUrl("file:///etc/passwd"))
    assert driver.find("notice_message", QLabel).text() == "This link is not opened."
    driver.window.commands.follow_link(QUrl("https://example.org/a"))
    assert opened == []
    assert driver.find("link_dialog", QMessageBox).informativeText() == "https://example.org/a"
    driver.find("link_dialog_yes", QAbstractButton).click()
    assert opened == [QUrl("https://example.org/a")]


def test_every_control_has_a_name_and_says_what_it_is(driver):
    driver.chat("Hello [markdown]")
    for button in driver.window.findChildren(QAbstractButton):
        if button.isVisible() and not button.objectName().startswith("qt_"):
            assert button.objectName(), button
            assert button.accessibleName(), button.objectName()
    for heading in driver.window.menuBar().actions():
        assert all(action.objectName() for action in heading.menu().actions() if not action.isSeparator())
    shortcuts = [a.shortcut().toString() for a in driver.window.findChildren(QAction) if not a.shortcut().isEmpty()]
    assert len(shortcuts) == len(set(shortcuts))


def test_an_uncaught_error_is_shown_and_never_silent(driver):
    def report(error: Exception) -> None:
        driver.program.report(type(error), error, error.__traceback__)

    report(NibbleError("The disk is full.", "Make room."))
    assert driver.find("notice_message", QLabel).text() == "The disk is full."
    assert not driver.find("notice_details").isVisible()
    report(ZeroDivisionError("ours"))
    driver.click("notice_details")
    assert "ZeroDivisionError: ours" in driver.find("details_text").toPlainText()
    driver.find("details_dialog").close()


def test_text_of_an_unfinished_reply_outlives_the_program(loop, program_of):
    driver = Driver(loop, program_of())
    driver.program.start()
    driver.until_idle()
    driver.say("Hello [tokens 4000] [token-ms 5]")
    driver.until(lambda: driver.session.state is ChatState.DECODING)
    driver.window.close()
    loop.run_until_complete(driver.program.close())
    assert not driver.program.engine.is_running
    store = Store(default_paths().database)
    messages = store.messages(store.conversations()[0].id)
    store.close()
    assert messages[-1].state is MessageState.CANCELLED
    assert messages[-1].message.text


def test_quitting_closes_the_window_and_ends_the_engine(loop, program_of, qapp):
    quit_filter = QuitFilter()
    qapp.installEventFilter(quit_filter)
    qapp.setQuitOnLastWindowClosed(False)
    program = program_of()
    loop.call_later(0.3, lambda: QApplication.sendEvent(qapp, QEvent(QEvent.Type.Quit)))
    loop.run_until_complete(run(qapp, program))
    qapp.removeEventFilter(quit_filter)
    assert not program.window.isVisible()
    assert not program.engine.is_running
