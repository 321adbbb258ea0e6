"""The disk is full or read-only, the database locked, damaged, another program's or newer: what the window does."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel

from app.errors import NibbleError
from app.paths import default_paths
from app.settings.file import VERSION as SETTINGS_VERSION
from app.settings.file import load_settings, save_settings
from app.settings.schema import Settings
from app.store.database import BUSY_MS
from app.store.migrations import VERSION
from app.store.store import MessageState, Store
from app.viewmodels.reply import ChatState
from tests.faults.killing import await_line, start_window
from tests.faults.small_disk import command
from tests.ui.window_driver import Driver


def can_mount() -> bool:
    """Whether this user may have a mount namespace of their own: root, and on most Linux systems everybody."""
    try:
        tried = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "nibble", "/mnt"]
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux") or not can_mount(), reason="needs mount namespaces")
def test_a_disk_that_fills_up_or_becomes_read_only_loses_nothing(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        command(folder), cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "done"


@pytest.fixture
def driver(loop, program_of):
    driver = Driver(loop, program_of())
    driver.program.start()
    driver.until_idle()
    return driver


def message(driver) -> str:
    assert driver.find("notice_bar").isVisible()
    return driver.find("notice_message", QLabel).text()


def test_a_database_that_another_program_holds_is_written_once_it_lets_go(driver):
    store = driver.program.store
    driver.say("Hello [tokens 200] [token-ms 10]")
    driver.until(lambda: driver.session.state is ChatState.DECODING)
    other = sqlite3.connect(default_paths().database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    driver.until_idle()
    driver.until(lambda: driver.find("notice_bar").isVisible())
    assert "locked" in message(driver)
    shown = driver.session.messages[1]
    assert len(shown.message.text.split()) == 200, "the reply goes on"
    driver.say("Next")
    assert driver.window.composer.edit.toPlainText() == "Next", "what cannot be kept is not asked, nor lost"
    conversation_id = driver.session.conversation.id
    assert store.messages(conversation_id)[1].message.text != shown.message.text
    other.execute("ROLLBACK")
    other.close()
    driver.until(lambda: store.messages(conversation_id)[1].message.text == shown.message.text)
    assert store.messages(conversation_id)[1].state is MessageState.COMPLETE
    driver.window.composer.send()
    driver.until_idle()
    assert [m.state for m in store.messages(conversation_id)] == [MessageState.COMPLETE] * 4


def test_a_window_that_is_closed_waits_longer_for_another_program(loop, driver):
    driver.chat("Hello")
    conversation_id = driver.session.conversation.id
    driver.say("Go on [tokens 4000] [token-ms 5]")
    driver.until(lambda: driver.session.state is ChatState.DECODING)
    other = sqlite3.connect(default_paths().database, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    loop.run_until_complete(asyncio.sleep(0.3))
    let_go = threading.Timer(3 * BUSY_MS / 1000, lambda: other.execute("ROLLBACK"))
    let_go.start()
    driver.window.close()
    loop.run_until_complete(driver.program.close())
    let_go.join()
    other.close()
    store = Store(default_paths().database)
    assert store.messages(conversation_id)[-1] == driver.session.messages[-1]
    store.close()


def test_a_logs_folder_that_cannot_be_written_keeps_no_window_shut(nibble_home, tmp_path):
    """In a process of its own: the log goes to stderr alone, and nothing is noted of a crash."""
    default_paths()
    for name in ("nibble.log", "fault.txt"):
        (nibble_home / "logs" / name).mkdir()
    window = start_window(nibble_home, tmp_path / "stamps.txt", "Hello [tokens 3]")
    try:
        await_line(window, "writing")
        await_line(window, "idle")
        window.terminate()
        assert window.wait(30) == 0
    finally:
        window.kill()
        window.communicate()


def test_the_window_waits_a_blink_for_another_program(driver):
    assert driver.program.store._database.rows("PRAGMA busy_timeout") == [(BUSY_MS,)]
    assert BUSY_MS <= 250


def test_a_database_that_is_held_at_the_start_is_told_and_left(program_of):
    Store(default_paths().database).close()
    other = sqlite3.connect(default_paths().database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(NibbleError, match="locked") as caught:
        program_of()
    assert "no other Nibble is busy" in caught.value.hint
    other.execute("ROLLBACK")
    other.close()
    assert not list(default_paths().data.glob("*broken*"))


@pytest.mark.parametrize(
    "statement",
    ["PRAGMA user_version = 0", f"PRAGMA user_version = {VERSION}", "ALTER TABLE message DROP COLUMN state"],
)
def test_another_programs_database_is_moved_aside(statement):
    path = default_paths().database
    if "ALTER" in statement:
        Store(path).close()
    other = sqlite3.connect(path)
    if "ALTER" in statement:
        for name in ("message_added", "message_removed", "message_changed"):
            other.execute(f"DROP TRIGGER {name}")
    else:
        other.execute("CREATE TABLE conversation (whose TEXT)")
    other.execute(statement)
    other.close()
    content = path.read_bytes()
    store = Store(path)
    (kept,) = path.parent.glob("nibble.broken-*.sqlite3")
    assert str(kept) in store.notice
    assert kept.read_bytes() == content
    assert store.conversations() == []
    store.close()


def test_a_window_over_broken_files_opens_and_says_what_it_kept(loop, program_of):
    paths = default_paths()
    files = {
        paths.settings_file: b"{",
        paths.database: b"no database" * 1000,
        paths.comparisons: b'{"conversation_id": 1}\n',
    }
    for path, content in files.items():
        path.write_bytes(content)
    driver = Driver(loop, program_of())
    driver.program.start()
    driver.until_idle()
    assert "settings file is broken" in message(driver)
    assert "conversations could not be read" in driver.find("notice_hint", QLabel).text()
    driver.chat("Hello")
    kept = {p.read_bytes() for folder in (paths.config, paths.data) for p in folder.iterdir() if p.stem.count(".")}
    assert kept == set(files.values()), "moved aside, each as it was"


def test_comparisons_do_not_pass_to_the_conversations_of_a_new_database(program_of):
    """Ids begin anew there; and the next start would have dropped those whose ids it does not know."""
    paths = default_paths()
    paths.comparisons.write_text("a line of an earlier Nibble\n")
    program_of()
    assert not paths.comparisons.exists()
    (kept,) = paths.data.glob("comparisons.earlier-*.jsonl")
    assert kept.read_text() == "a line of an earlier Nibble\n"


def test_comparisons_that_cannot_be_read_do_not_keep_the_window_shut(loop, program_of):
    Store(default_paths().database).close()
    default_paths().comparisons.mkdir()
    driver = Driver(loop, program_of())
    driver.program.start()
    driver.until_idle()
    assert "could not be read" in message(driver)
    driver.chat("Hello")
    assert driver.session.messages[-1].state is MessageState.COMPLETE


def test_files_of_a_newer_nibble_are_not_written_over(program_of):
    paths = default_paths()
    paths.settings_file.write_text(f'{{"version": {SETTINGS_VERSION + 1}, "of_the_future": true}}')
    settings = paths.settings_file.read_bytes()
    other = sqlite3.connect(paths.database)
    other.execute(f"PRAGMA user_version = {VERSION + 1}")
    other.close()
    database = paths.database.read_bytes()
    with pytest.raises(NibbleError, match="newer Nibble"):
        program_of()
    assert paths.database.read_bytes() == database
    (kept,) = paths.config.glob("settings.newer-*.json")
    assert kept.read_bytes() == settings
    save_settings(paths.settings_file, Settings(show_panel=False))
    assert load_settings(paths.settings_file).settings.show_panel is False
    assert kept.read_bytes() == settings


def test_a_program_that_cannot_open_its_store_starts_no_engine(program_of, monkeypatch):
    monkeypatch.setattr(Store, "recover", lambda _: (_ for _ in ()).throw(NibbleError("disk full")))
    started = []
    monkeypatch.setattr("app.main.EngineClient", lambda *_: started.append(1))
    with pytest.raises(NibbleError, match="disk full"):
        program_of()
    assert started == []
