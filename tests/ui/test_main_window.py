"""The whole window over the fake engine's own process."""

import asyncio
import csv
import json
from dataclasses import replace

import pytest
from PySide6.QtCore import QEvent, QModelIndex, Qt, QUrl
from PySide6.QtGui import QAction, QDesktopServices
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QFileDialog,
    QInputDialog,
    QLabel,
    QMessageBox,
    QWidget,
)

from app.chat.options import CacheMode
from app.engine.command import engine_command
from app.errors import NibbleError
from app.main import Program, run
from app.paths import default_paths
from app.settings.file import load_settings
from app.store.store import MessageState, Store
from app.ui.compare_window import CompareWindow
from app.ui.quit_filter import QuitFilter
from app.viewmodels.reply import ChatState


async def until(holds, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.01)


class Driver:
    """Does to the window what a person does, and waits for what comes of it."""

    def __init__(self, loop, program: Program) -> None:
        self._loop = loop
        self.program = program
        self.window = program.window
        self.session = program.models.session

    def until(self, holds) -> None:
        self._loop.run_until_complete(until(holds))

    def until_idle(self) -> None:
        self.until(lambda: self.session.state is ChatState.IDLE)

    def say(self, text: str) -> None:
        self.window.composer.write(text)
        self.window.composer.send()

    def chat(self, text: str) -> None:
        self.say(text)
        self.until_idle()

    def find(self, name: str, kind: type = QWidget):
        found = self.window.findChild(kind, name)
        assert found is not None, name
        return found

    def click(self, name: str) -> None:
        button = self.find(name, QAbstractButton)
        assert button.isVisible(), name
        assert button.isEnabled(), name
        button.click()

    def texts(self) -> list[str]:
        return [view.text.toPlainText() for view in self.window.transcript.views]


@pytest.fixture
def program_of(loop, tmp_path):
    made = []
    starter = tmp_path / "starter"
    starter.mkdir()

    def make() -> Program:
        made.append(Program(default_paths(), engine_command("fake"), starter))
        return made[-1]

    yield make
    for program in made:
        program.window.close()
        loop.run_until_complete(program.close())
        program.window.deleteLater()


@pytest.fixture
def driver(loop, program_of):
    driver = Driver(loop, program_of())
    driver.program.start()
    driver.until_idle()
    return driver


def test_first_start_says_what_the_starter_is_and_what_to_do(driver):
    text = driver.find("starter_text", QLabel).text()
    assert "27.8M parameters" in text
    assert "open any mlx-lm model folder" in text
    assert "later version" in text
    assert driver.find("empty_state").isVisible()
    assert driver.find("conversations_empty", QLabel).text() == "Your chats appear here."
    driver.click("suggestion_0")
    driver.click("send")
    driver.until_idle()
    assert len(driver.texts()) == 2
    assert not driver.find("empty_state").isVisible()


def test_a_chat_with_its_live_figures(driver):
    driver.chat("Hello [tokens 12]")
    assert driver.texts()[0] == "Hello [tokens 12]"
    assert len(driver.texts()[1].split()) == 12
    assert driver.find("panel_headline", QLabel).text() == "3.56x smaller than fp16"
    assert "3.56x smaller" in driver.window.transcript.views[1].status_text
    assert driver.window.windowTitle() == "Hello [tokens 12] – Nibble"
    assert driver.window.sidebar.list.currentIndex().data() == "Hello [tokens 12]"


def test_the_cache_mode_is_switched_in_the_chat(driver):
    driver.click("cache_fp16")
    driver.chat("Hello")
    assert driver.session.messages[-1].figures.cache.mode is CacheMode.FP16
    assert driver.find("panel_headline", QLabel).text() == "Held in fp16: nothing saved"
    driver.window.actions_.new_chat.trigger()
    assert driver.find("cache_int4", QAbstractButton).isChecked()


def test_prefill_progress_is_shown_and_stopped(driver):
    driver.say("word " * 200 + "[prefill-ms 30]")
    driver.until(lambda: "Reading 8 of" in driver.window.composer.status_text)
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


def test_a_dead_engine_is_explained_and_restarted(driver):
    driver.say("Hello [tokens 9] [abort decode]")
    driver.until(lambda: driver.session.state is ChatState.FAILED)
    assert "aborted" in driver.find("notice_message", QLabel).text()
    assert driver.texts()[1] != ""
    assert not driver.find("send", QAbstractButton).isEnabled()
    driver.click("restart_engine")
    driver.until_idle()
    assert not driver.find("notice_bar").isVisible()
    driver.chat("Still there?")
    assert driver.session.messages[-1].state is MessageState.COMPLETE


def test_a_defect_in_the_engine_shows_its_details(driver):
    driver.chat("Hello [defect decode]")
    assert "ZeroDivisionError" in driver.find("notice_message", QLabel).text()
    assert not driver.find("restart_engine").isVisible()
    driver.click("notice_details")
    assert "Traceback" in driver.find("details_text").toPlainText()
    driver.find("details_dialog").close()


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
    sidebar.list.clicked.emit(conversations.index(1))
    assert driver.texts()[0] == "About foxes"

    driver.window.actions_.rename.trigger()
    dialog = driver.find("rename_dialog", QInputDialog)
    dialog.setTextValue("Foxes")
    dialog.accept()
    assert driver.window.windowTitle() == "Foxes – Nibble"

    sidebar.search.setText("lanterns")
    assert [conversations.index(i).data() for i in range(conversations.rowCount())] == ["About lanterns"]
    sidebar.search.setText("")

    driver.window.actions_.delete.trigger()
    dialog = driver.find("delete_dialog", QMessageBox)
    assert "Foxes" in dialog.text()
    dialog.button(QMessageBox.StandardButton.Cancel).click()
    assert conversations.rowCount() == 2
    driver.window.actions_.delete.trigger()
    driver.window.findChildren(QAbstractButton, "delete_dialog_yes")[-1].click()
    assert [conversations.index(i).data() for i in range(conversations.rowCount())] == ["About lanterns"]
    assert driver.find("empty_state").isVisible()
    assert driver.window.sidebar.list.currentIndex() == QModelIndex()


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


def test_a_model_folder_is_opened_remembered_and_offered_again(driver, tmp_path):
    folder = tmp_path / "Qwen3-4B"
    folder.mkdir()
    driver.window.actions_.open_model.trigger()
    dialog = driver.find("folder_dialog", QFileDialog)
    dialog.fileSelected.emit(str(folder))
    dialog.close()
    driver.until_idle()
    assert driver.window.header.picker.text() == "Qwen3-4B"
    assert not driver.find("starter_note").isVisible()
    driver.window.header.picker.fill_menu()
    offered = [a.text() for a in driver.window.header.picker.menu().actions() if not a.isSeparator()]
    assert offered == ["Starter (27.8M parameters)", "Qwen3-4B", "Open Model Folder…"]
    assert load_settings(default_paths().settings_file).settings.model_path == str(folder)


def test_a_long_model_name_gives_way_in_a_narrow_window(driver, tmp_path):
    folder = tmp_path / "Some-Very-Long-Model-Name-Instruct-2507-4bit-DWQ"
    folder.mkdir()
    driver.session.load_model(str(folder))
    driver.until_idle()
    driver.window.resize(driver.window.minimumSize())
    header = driver.window.header
    driver.until(lambda: header.width() < 460)
    assert "…" in header.picker.text()
    assert folder.name in header.picker.accessibleName()
    assert header.width() >= header.layout().minimumSize().width()


def test_a_folder_without_a_model_says_so_and_the_starter_is_at_hand(driver, tmp_path):
    driver.session.load_model(str(tmp_path / "nothing"))
    driver.until(lambda: driver.session.state is ChatState.NO_MODEL)
    assert "no model folder" in driver.find("notice_message", QLabel).text()
    assert driver.find("empty_open_folder").isVisible()
    driver.session.load_model("")
    driver.until_idle()


def test_compare_runs_both_modes_and_counts_among_the_stats(driver):
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
