"""The window on a disk that fills up and that becomes read-only: `python -m tests.faults.small_disk FOLDER`.

To be run in a mount namespace of its own, as `command` does: a tmpfs of 8 MB is mounted on FOLDER there, seen by no
other process and gone with this one. Every check is an assertion; the last line printed is `done`.
"""

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PySide6.QtWidgets import QApplication, QLabel
from qasync import QEventLoop

from app.engine.command import engine_command
from app.errors import NibbleError
from app.main import Program
from app.paths import default_paths
from app.settings.file import load_settings
from app.store.store import MessageState
from app.viewmodels.reply import ChatState
from tests.ui.window_driver import Driver

DISK_BYTES = 8 * 1024**2
MS_RDONLY, MS_REMOUNT = 1, 32


def command(folder: Path) -> list[str]:
    """Return the command that runs this module in namespaces of its own, as root or not."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", *user, sys.executable, "-m", "tests.faults.small_disk", str(folder)]


def mount(folder: Path, flags: int = 0) -> None:
    """Mount the disk on `folder`, or change the flags of the one that is there."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"nibble", bytes(folder), b"tmpfs", flags, f"size={DISK_BYTES}".encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Leave no byte free on the disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 1024**2
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    assert shutil.disk_usage(folder).free == 0
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def window(loop: QEventLoop, model: Path) -> Iterator[Driver]:
    """Open the window and close it in order."""
    driver = Driver(loop, Program(default_paths(), engine_command("fake"), model))
    try:
        driver.program.start()
        driver.until_idle()
        yield driver
    finally:
        driver.window.close()
        loop.run_until_complete(driver.program.close())
        driver.window.deleteLater()


def refused(call: Callable[[], object]) -> str:
    """Return what a call that must fail says."""
    try:
        call()
    except NibbleError as error:
        return str(error)
    raise AssertionError("it did not fail")


def stored(driver: Driver) -> list[tuple[str, MessageState]]:
    """Return the open conversation as the store has it."""
    conversation = driver.session.conversation
    assert conversation is not None
    return [(m.message.text, m.state) for m in driver.program.store.messages(conversation.id)]


def fill_while_writing(driver: Driver, home: Path) -> None:
    """Fill the disk in the middle of a reply; nothing of it may be lost once there is room."""
    driver.say("Hello [tokens 4000] [token-ms 1]")
    driver.until(lambda: driver.session.state is ChatState.DECODING)
    settings = default_paths().settings_file
    before = settings.read_bytes()
    with full(home):
        notice = driver.find("notice_message", QLabel)
        # The write-ahead log has room at first: it keeps the space of what was merged.
        driver.until(lambda: "could not be read or written" in notice.text())
        assert "disk" in notice.text(), notice.text()
        assert driver.find("notice_bar").isVisible()
        driver.window.actions_.stop.trigger()
        driver.until_idle()
        shown = driver.session.messages[1].message.text
        assert stored(driver)[1][0] != shown, "the disk was not full"
        assert shown.startswith(stored(driver)[1][0])

        driver.say("Next")
        assert driver.session.state is ChatState.IDLE, "nothing is asked that cannot be kept"
        assert driver.window.composer.edit.toPlainText() == "Next", "what was typed stays"

        said = refused(lambda: driver.program.models.settings.zoom(1))
        assert "No space left" in said
        assert settings.read_bytes() == before
    driver.until(lambda: stored(driver)[1] == (shown, MessageState.CANCELLED))
    driver.window.composer.send()
    driver.until(lambda: len(driver.session.messages) == 4 and driver.session.state is ChatState.IDLE)
    assert stored(driver)[3][1] is MessageState.COMPLETE


def main(home: Path) -> None:
    """Fill the disk while the window is open, at its start, and take away the right to write."""
    mount(home)
    os.environ["NIBBLE_HOME"] = str(home)
    model = home / "starter"
    model.mkdir()
    application = QApplication(["nibble"])
    application.setQuitOnLastWindowClosed(False)
    with QEventLoop(application) as loop:
        with window(loop, model) as driver:
            driver.program.models.settings.remember_model("")
            driver.program.models.settings.zoom(-1)
            fill_while_writing(driver, home)
            kept = stored(driver)
        wanted = load_settings(default_paths().settings_file).settings
        print("full while writing: kept", flush=True)

        def open_window() -> Program:
            return Program(default_paths(), engine_command("fake"), model)

        with full(home):
            said = refused(open_window)
        assert "disk is not full" in said, said
        print(f"full at the start: {said}", flush=True)

        mount(home, MS_REMOUNT | MS_RDONLY)
        said = refused(open_window)
        assert str(default_paths().database) in said, said
        print(f"read-only at the start: {said}", flush=True)
        mount(home, MS_REMOUNT)

        with window(loop, model) as driver:
            driver.session.open(driver.program.models.conversations.conversations[0].id)
            assert stored(driver) == kept, "neither start has changed anything"
            assert driver.program.models.settings.settings == wanted
            assert not list(home.rglob("*broken*"))
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
