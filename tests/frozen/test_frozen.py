"""The frozen program, as it is shipped: no Python on the PATH, nothing of the checkout."""

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.frozen.x11 import Hands, require_x11, screen, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def environment(home: Path, **more: str) -> dict[str, str]:
    """What the program is started with: no variable of Python's, and a PATH where nothing is."""
    return {"HOME": str(home), "NIBBLE_HOME": str(home), "PATH": str(home / "nothing"), "LC_ALL": "C.UTF-8", **more}


def test_the_self_test_passes_with_no_python_on_the_path(frozen: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [frozen / "Nibble", "--self-test"],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(frozen)" in done.stdout
    assert done.stdout.endswith("All is well.\n")


def test_only_what_is_used_is_in_it(frozen: Path) -> None:
    inside = frozen / "_internal"
    names = {path.relative_to(inside).as_posix() for path in inside.rglob("*") if path.is_file()}
    assert "resources/starter/model.safetensors" in names
    assert "kernels/metal/attend.metal" in names
    assert any(name.startswith("mlx/lib/libmlx.") for name in names)
    unwanted = ("translations/", "/qml/", "libQt6Quick", "libQt6Qml", "hypothesis/", "mypy", "pytest/")
    assert not [name for name in names if any(part in name for part in unwanted) or name.endswith((".h", ".pyi"))]


def stored(home: Path, query: str) -> list[tuple[str, ...]]:
    """Return what the store holds, read beside the running program."""
    database = home / "data" / "nibble.sqlite3"
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        try:
            return store.execute(query).fetchall()
        except sqlite3.OperationalError:  # the tables are being made
            return []


def complete_replies(home: Path) -> int:
    return len(stored(home, "SELECT id FROM message WHERE role = 'assistant' AND state = 'complete' AND text <> ''"))


def processes_of(session_id: int) -> list[str]:
    """Return the command lines of the processes that `setsid` made one session (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended in the meantime
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session_id:
                found.append((folder / "cmdline").read_text().replace("\0", " "))
    return found


@contextmanager
def window(frozen: Path, home: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program with these variables besides; end it at the latest here."""
    with (home / "stderr.txt").open("wb") as stderr:
        program = subprocess.Popen(
            [frozen / "Nibble"],
            env=environment(home, **variables),
            cwd=home,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            yield program
        finally:
            if program.poll() is None:
                program.kill()
            program.wait(timeout=30)


def send(hands: Hands, home: Path, text: str) -> None:
    """Type a message and send it, again and again until the model is open and it goes; wait for the answer."""
    answered = complete_replies(home)
    sent = len(stored(home, "SELECT id FROM message WHERE role = 'user'"))
    hands.type(text)

    def goes() -> bool:
        hands.press("Return")
        return len(stored(home, "SELECT id FROM message WHERE role = 'user'")) > sent

    until(goes, "a message in the store", 120)
    until(lambda: complete_replies(home) > answered, "an answer", 120)


def test_a_chat_in_the_window_in_both_modes(frozen: Path, tmp_path: Path) -> None:
    """By keys alone: a message is answered, the chat goes over to fp16, another is answered, figures are exported."""
    require_x11()
    (tmp_path / "config").mkdir()
    settings = {"version": 1, "chat": {"sampling": {"temperature": 0.0, "max_tokens": 24}}}
    (tmp_path / "config" / "settings.json").write_text(json.dumps(settings))
    exported = tmp_path / "figures.json"
    with screen() as display, window(frozen, tmp_path, DISPLAY=display, QT_QPA_PLATFORM="xcb") as program:
        hands = Hands(display)
        hands.focus("Nibble$")
        send(hands, tmp_path, "Tell me a story about a fox.")

        hands.press("ctrl+shift+comma")
        hands.focus("^Chat Settings$")
        hands.press("Tab")  # from Close to the first field

        def is_fp16() -> bool:
            hands.press("f")  # in the list of modes
            return "fp16" in stored(tmp_path, "SELECT options FROM conversation")[0][0]

        until(is_fp16, "fp16 in the chat's settings")
        hands.press("Escape")
        hands.focus("Nibble$")
        send(hands, tmp_path, "Tell me another one.")

        hands.press("ctrl+shift+e")
        hands.focus("^Export Session Stats$")
        hands.press("ctrl+a")
        hands.type(str(exported))
        hands.press("Return")
        until(exported.exists, "the exported figures")
        hands.focus("Nibble$")
        hands.press("ctrl+q")
        assert program.wait(timeout=30) == 0
        assert processes_of(program.pid) == []
    replies = json.loads(exported.read_text())["replies"]
    assert [reply["effective_mode"] for reply in replies] == ["int4", "fp16"]
    assert replies[0]["kv_saving_ratio"] > 3.4
    assert (tmp_path / "stderr.txt").read_text() == ""


def test_a_crash_is_reported_at_the_next_start(frozen: Path, tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are looked for in /proc")
    logs = tmp_path / "logs"

    def is_running(program: subprocess.Popen[bytes]) -> bool:
        return (logs / "fault.txt").exists() and bool(processes_of(program.pid)[1:])  # the engine too

    with window(frozen, tmp_path, QT_QPA_PLATFORM="offscreen") as program:
        until(lambda: is_running(program), "the engine's process")
        program.send_signal(signal.SIGSEGV)
        assert program.wait(timeout=30) == -signal.SIGSEGV
        until(lambda: not processes_of(program.pid), "the engine's end: it follows the window's")
    assert list(logs.glob("crash-*.txt")) == []
    with window(frozen, tmp_path, QT_QPA_PLATFORM="offscreen") as program:
        until(lambda: list(logs.glob("crash-*.txt")), "a crash report")
        program.terminate()
        assert program.wait(timeout=30) == 0
    (report,) = logs.glob("crash-*.txt")
    assert "Segmentation fault" in report.read_text()
