"""The window as models are opened and the engine fails, over the fake engine's own process."""

from pathlib import Path

from PySide6.QtWidgets import QAbstractButton, QFileDialog, QLabel

from app.errors import NibbleError
from app.paths import default_paths
from app.settings.file import load_settings
from app.store.store import MessageState
from app.viewmodels.reply import ChatState
from tests.ui.window_driver import Driver


def test_a_dead_engine_is_explained_and_restarted(driver):
    driver.say("Hello [tokens 9] [abort decode]")
    driver.until(lambda: driver.session.state is ChatState.FAILED)
    assert "aborted" in driver.find("notice_message", QLabel).text()
    assert driver.texts()[1] != ""
    assert not driver.find("send", QAbstractButton).isEnabled()
    assert not driver.find("notice_close").isVisible(), "the way to restart stays"
    driver.window.notice.show_notice("Something else.")
    driver.click("restart_engine")
    driver.until_idle()
    assert not driver.find("notice_bar").isVisible()
    driver.window.notice.show_notice("Something else.")
    assert driver.find("notice_close").isVisible()
    assert not driver.find("restart_engine").isVisible()
    driver.chat("Still there?")
    assert driver.session.messages[-1].state is MessageState.COMPLETE


def test_the_window_starts_with_the_folder_that_it_was_given(loop, program_of, tmp_path, monkeypatch):
    (tmp_path / "Qwen3-4B").mkdir()
    monkeypatch.chdir(tmp_path)
    driver = Driver(loop, program_of())
    driver.program.start(Path("Qwen3-4B"))
    driver.until_idle()
    assert driver.program.models.model.path == str(tmp_path / "Qwen3-4B")
    assert "Qwen3-4B" in driver.find("model_picker", QAbstractButton).text()


def test_a_folder_given_that_is_no_model_is_explained(loop, program_of, tmp_path):
    (tmp_path / "broken [fail load]").mkdir()
    driver = Driver(loop, program_of())
    driver.program.start(tmp_path / "broken [fail load]")
    driver.until(driver.window.notice.isVisible)
    assert "failure in load" in driver.find("notice_message", QLabel).text()
    assert driver.session.state is ChatState.NO_MODEL
    assert driver.find("empty_get_model").isVisible()


def test_the_engine_is_restarted_from_the_menu(driver):
    assert not driver.window.actions_.restart.isEnabled()
    driver.say("Hello [tokens 9] [exit decode]")
    driver.until(lambda: driver.session.state is ChatState.FAILED)
    driver.window.actions_.restart.trigger()
    driver.until_idle()
    assert not driver.window.actions_.restart.isEnabled()
    assert not driver.find("notice_bar").isVisible()


def test_a_defect_in_the_engine_shows_its_details(driver):
    driver.chat("Hello [defect decode]")
    assert "ZeroDivisionError" in driver.find("notice_message", QLabel).text()
    assert not driver.find("restart_engine").isVisible()
    driver.click("notice_details")
    assert "Traceback" in driver.find("details_text").toPlainText()
    driver.find("details_dialog").close()


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
    assert offered == ["Starter (27.8M parameters)", "Qwen3-4B", "Get a Real Model…", "Open Model Folder…"]
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


def test_a_folder_without_a_model_says_so_and_the_model_before_it_stays(driver, tmp_path):
    driver.session.load_model(str(tmp_path / "nothing"))
    driver.until_idle()
    assert "no model folder" in driver.find("notice_message", QLabel).text()
    assert driver.window.header.picker.text() == "Starter"
    driver.chat("Still there?")
    assert driver.session.messages[-1].state is MessageState.COMPLETE
    driver.session.load_model(str(tmp_path / "nothing"))
    driver.until_idle()
    driver.session.load_model("")
    driver.until_idle()
    assert not driver.find("notice_bar").isVisible()


def test_another_notice_outlives_the_opening_of_a_model(driver):
    driver.window.notice.show_notice("The settings were damaged.")
    driver.session.load_model("")
    driver.until_idle()
    assert driver.find("notice_bar").isVisible()


def test_opening_a_model_is_stopped_without_alarm(driver, tmp_path):
    folder = tmp_path / "slow [load-ms 2000]"
    folder.mkdir()
    driver.session.load_model(str(folder))
    driver.until(lambda: "Reading" in driver.window.composer.status_text)
    driver.window.actions_.stop.trigger()
    assert "stopping" in driver.window.composer.status_text
    driver.until_idle()
    assert driver.window.header.picker.text() == "Starter"
    assert not driver.find("notice_bar").isVisible()


def test_a_model_that_cannot_be_remembered_is_open_and_the_notice_stays(driver, monkeypatch):
    def refuse(path: str) -> None:
        raise NibbleError("disk full")

    monkeypatch.setattr(driver.program.models.settings, "remember_model", refuse)
    driver.session.load_model("")
    driver.until_idle()
    assert driver.find("notice_message", QLabel).text() == "disk full"
    assert driver.find("notice_bar").isVisible()


def test_a_chat_offers_the_model_it_was_written_with(driver, tmp_path):
    folder = tmp_path / "Qwen3 <4B>"
    folder.mkdir()
    driver.session.load_model(str(folder))
    driver.until_idle()
    driver.chat("Hello")
    chat = driver.session.conversation.id
    note, text = driver.find("chat_model_note"), driver.find("chat_model_text", QLabel)
    assert not note.isVisible()
    driver.session.load_model("")
    driver.until_idle()
    assert note.isVisible()
    assert "This chat was written with Qwen3 &lt;4B&gt;." in text.text()
    assert "go on with Starter" in text.text()
    driver.session.new_chat()
    assert not note.isVisible()
    driver.session.open(chat)
    text.linkActivated.emit("open")
    driver.until_idle()
    assert driver.program.models.model.path == str(folder)
    assert not note.isVisible()
    driver.session.load_model("")
    driver.until_idle()
    driver.chat("Hello again")
    assert not note.isVisible(), "it goes on with the starter now"
