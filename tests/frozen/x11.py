"""A screen that nobody sees, with hands: Xvfb, and xdotool to press its keys."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

POLL_S = 0.2


def require_x11() -> None:
    """Skip the test that calls this where Xvfb or xdotool is missing; with `NIBBLE_REQUIRE_X11=1` fail it."""
    missing = [name for name in ("Xvfb", "xdotool") if shutil.which(name) is None]
    if missing:
        message = f"not installed: {', '.join(missing)}"
        if os.environ.get("NIBBLE_REQUIRE_X11") == "1":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


@contextmanager
def screen() -> Iterator[str]:
    """Start an X server of 1280 by 900; yield the name of its display."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
    finally:
        server.terminate()
        server.wait(timeout=10)


def until(holds: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Wait until `holds()` is true; fail, saying `what` did not come, after `timeout_s`."""
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(POLL_S)


class Hands:
    """Presses keys in the windows of one display, as a person does. There is no window manager: focus is given here."""

    def __init__(self, display: str) -> None:
        self._environment = {**os.environ, "DISPLAY": display}

    def focus(self, title: str, timeout_s: float = 60.0) -> None:
        """Give the keyboard to the visible window whose title matches the pattern `title`, once there is one."""
        found: list[str] = []

        def look() -> bool:
            found[:] = self._run("search", "--onlyvisible", "--name", title, check=False).split()
            return bool(found)

        until(look, f"a window named {title}", timeout_s)
        self._run("windowfocus", "--sync", found[-1])

    def is_there(self, title: str) -> bool:
        """Tell whether a visible window has a title that matches the pattern `title`."""
        return bool(self._run("search", "--onlyvisible", "--name", title, check=False).split())

    def type(self, text: str) -> None:
        """Type `text`."""
        self._run("type", "--delay", "20", text)

    def press(self, *keys: str) -> None:
        """Press keys or chords, such as `Return` or `ctrl+shift+e`, one after another."""
        self._run("key", "--delay", "60", *keys)

    def _run(self, *arguments: str, check: bool = True) -> str:
        command = ["xdotool", *arguments]
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=check, timeout=60
        ).stdout
