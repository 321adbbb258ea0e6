"""Help: logs, crash reports, updates."""

import json
import sys
from dataclasses import replace

import pytest
from PySide6.QtWidgets import QLabel, QMessageBox, QPushButton

from app import __version__
from app.engine.command import engine_command
from app.main import Program
from app.paths import default_paths
from app.settings.file import save_settings
from app.settings.schema import Settings, UpdateCheck
from app.ui import commands
from app.viewmodels.reply import ChatState
from tests.releases_server import releases_server
from tests.ui.window_driver import Driver


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(commands, "_open_url", lambda url: found.append(url.toString()))
    return found


@pytest.fixture
def driver_of(loop, tmp_path, monkeypatch):
    """A window whose releases are told at an address of the test's."""
    made: list[Program] = []

    def make(address: str) -> Driver:
        monkeypatch.setattr("app.main.releases_address", lambda: address)
        starter = tmp_path / "starter"
        starter.mkdir()
        made.append(Program(default_paths(), engine_command("fake"), starter))
        driver = Driver(loop, made[-1])
        driver.program.start()
        driver.until_idle()
        return driver

    yield make
    for program in made:
        program.window.close()
        loop.run_until_complete(program.close())
        program.window.deleteLater()


def release(version: str) -> bytes:
    return json.dumps({"tag_name": f"v{version}", "html_url": "https://example.org/releases"}).encode()


def test_the_logs_are_a_click_away(driver: Driver, opened: list[str]) -> None:
    driver.window.actions_.logs.trigger()
    assert opened == [f"file://{default_paths().logs}"]


def test_a_broken_engine_leaves_a_report_without_the_chats_text(driver: Driver, opened: list[str]) -> None:
    assert not driver.window.actions_.crash_report.isEnabled()
    driver.say("My secret [tokens 20] [abort decode]")
    driver.until(lambda: driver.session.state is ChatState.FAILED)
    assert driver.window.actions_.crash_report.isEnabled()
    driver.window.actions_.crash_report.trigger()
    (path,) = default_paths().logs.glob("crash-*.txt")
    assert opened == [f"file://{path}"]
    text = path.read_text()
    assert "The engine stopped: aborted." in text
    assert "My secret" not in text


def test_a_defect_of_the_window_is_reported_and_the_notice_says_where(driver: Driver) -> None:
    driver.chat("Another secret [tokens 4]")
    try:
        raise KeyError("Another secret [tokens 4]")
    except KeyError:
        driver.program.report(*sys.exc_info())
    (path,) = default_paths().logs.glob("crash-*.txt")
    assert "Help, Show Last Crash Report" in driver.window.notice.accessibleName()
    assert driver.window.actions_.crash_report.isEnabled()
    text = path.read_text()
    assert "KeyError" in text
    assert "test_help_menu.py" in text
    assert "Another secret" not in text


def test_what_broke_the_last_run_is_told_at_the_next_start(program_of) -> None:
    default_paths().fault_file.write_text("Fatal Python error: Segmentation fault")
    program = program_of()
    assert "Nibble broke the last time it ran" in program.window.notice.message


def test_a_newer_version_is_offered_and_its_page_opened(driver_of, opened: list[str]) -> None:
    with releases_server(200, release("99.0.0")) as address:
        driver = driver_of(address)
        driver.window.actions_.updates.trigger()
        driver.until(lambda: driver.window.findChild(QMessageBox, "update_dialog"))
    dialog = driver.find("update_dialog", QMessageBox)
    assert dialog.text() == "Nibble 99.0.0 is out."
    assert __version__ in dialog.informativeText()
    driver.find("update_dialog_yes", QPushButton).click()
    assert opened == ["https://example.org/releases"]


def test_the_newest_version_is_told_when_asked(driver_of) -> None:
    with releases_server(200, release(__version__)) as address:
        driver = driver_of(address)
        driver.window.actions_.updates.trigger()
        driver.until(lambda: driver.window.notice.message)
    assert driver.window.notice.message == f"Nibble {__version__} is the newest version."


def test_a_failure_is_told_when_asked(driver: Driver) -> None:
    driver.window.actions_.updates.trigger()
    assert "does not know where releases are published" in driver.window.notice.message


def test_nothing_is_asked_unless_it_was_set(driver_of) -> None:
    seen: list[dict[str, str]] = []
    with releases_server(200, release("99.0.0"), seen) as address:
        driver = driver_of(address)
        driver.chat("Hello [tokens 2]")
    assert Settings().update_check is UpdateCheck.WHEN_ASKED
    assert not seen


@pytest.mark.parametrize(("status", "asks"), [(200, True), (500, False)])
def test_at_start_only_news_is_shown(driver_of, status: int, asks: bool) -> None:
    save_settings(default_paths().settings_file, replace(Settings(), update_check=UpdateCheck.AT_START))
    seen: list[dict[str, str]] = []
    with releases_server(status, release("99.0.0"), seen) as address:
        driver = driver_of(address)
        driver.until(lambda: seen and not driver.program.models.updates.is_asking)
    dialog = driver.window.findChild(QMessageBox, "update_dialog")
    assert (dialog is not None) == asks
    assert not driver.window.notice.isVisible()
    if dialog is not None:
        dialog.close()


def test_about_shows_the_icon_where_windows_have_none(driver: Driver) -> None:
    """As in the Mac's app, whose bundle has it."""
    driver.window.actions_.about.trigger()
    dialog = driver.find("about_dialog")
    assert dialog.windowIcon().isNull()
    assert not dialog.findChild(QLabel, "about_icon").pixmap().isNull()
    dialog.close()
