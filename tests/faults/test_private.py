"""Nobody listens, nobody else reads, and neither logs nor errors hold what was said."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.chat.message import Message, Role
from app.chat.options import ChatOptions, Sampling
from app.engine.child import EngineChild
from app.engine.command import engine_command
from app.engine.protocol import Finished, Generate, Load, Loaded, Ready
from app.log import start_logging
from app.paths import default_paths, keep_private
from app.stats.export import export_rows
from app.store.comparisons import ComparisonFile
from app.ui.compare_window import CompareWindow
from app.viewmodels.reply import ChatState
from tests.tiny_model import write_tiny_model

ROOT = Path(__file__).parents[2]
NET = Path("/proc/net")
TOKEN = "hf_PlantedTokenPlantedToken"
SAID = "planted-in-the-chat"


@pytest.fixture
def careless(monkeypatch):
    """What is started here would let everybody read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    return [
        f"{path} {path.stat().st_mode & 0o777:o}"
        for path in [folder, *folder.rglob("*")]
        if path.stat().st_mode & 0o077
    ]


def processes(pid: int) -> set[int]:
    """Return a process and all that it started."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found |= processes(int(child))
    return found


def sockets(pids: set[int]) -> list[str]:
    """Return the lines of the system's tables of internet and of listening local sockets that belong to processes."""
    inodes = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", str(handle.readlink()))
            except FileNotFoundError:  # closed meanwhile
                continue
            if found:
                inodes.add(found[1])
    lines = []
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "udplite"):
        if (NET / table).exists():
            lines += [
                f"{table} {line}" for line in (NET / table).read_text().splitlines()[1:] if line.split()[9] in inodes
            ]
    for line in (NET / "unix").read_text().splitlines()[1:]:
        _, _, _, flags, _, _, inode, *_ = line.split()
        if inode in inodes and int(flags, 16) & 0x10000:  # __SO_ACCEPTCON: it listens
            lines.append(f"unix {line}")
    return lines


needs_proc = pytest.mark.skipif(not NET.exists(), reason="this system has no /proc/net")


@needs_proc
def test_the_tables_show_a_port_that_is_open():
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        server.stdout.readline()
        assert len(sockets(processes(server.pid))) == 1
        server.stdin.close()


@needs_proc
def test_the_window_and_its_engine_open_no_port_and_no_file_to_others(nibble_home, careless):
    """The program as it is started, with the real engine."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "HF_TOKEN": TOKEN}
    for name in ("data", "config"):
        (nibble_home / name).mkdir(mode=0o755)
    (nibble_home / "data" / "earlier.txt").touch(mode=0o644)
    with subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as window:
        try:
            until(lambda: len(processes(window.pid)) == 2, window)
            until(lambda: maps_hold(max(processes(window.pid)), "libmlx"), window)
            assert sockets(processes(window.pid)) == []
            window.send_signal(signal.SIGTERM)
            out, err = window.communicate(timeout=60)
        finally:
            window.kill()
    assert window.returncode == 0, err
    names = {path.name for path in nibble_home.rglob("*")}
    assert {"nibble.sqlite3", "nibble.log", "earlier.txt"} <= names
    assert open_to_others(nibble_home) == []
    assert holding(nibble_home, TOKEN) == []
    assert TOKEN not in out + err


def until(holds, process, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.1)


def maps_hold(pid: int, library: str) -> bool:
    return library in Path(f"/proc/{pid}/maps").read_text()


@needs_proc
def test_an_engine_that_answers_opens_no_port_and_its_calibration_to_nobody(nibble_home, tmp_path, careless):
    folder = write_tiny_model(tmp_path / "tiny", num_hidden_layers=1)
    options = ChatOptions(system_prompt=SAID, sampling=Sampling(max_tokens=4))
    with EngineChild(engine_command()) as child:
        assert isinstance(child.event(), Ready)
        assert isinstance(child.ask(Load("1", str(folder)))[-1], Loaded)
        assert isinstance(child.ask(Generate("2", "c", (Message(Role.USER, SAID),), options))[-1], Finished)
        assert sockets(processes(child.process.pid)) == []
        assert child.quit() == 0
    assert SAID not in child.stderr
    assert list(nibble_home.rglob("calibrations/*.safetensors"))
    assert open_to_others(nibble_home) == []


def holding(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.fixture
def logged(careless):
    """The log as the window's process writes it, and files as private as that makes them."""
    keep_private()
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    start_logging(default_paths(), "nibble")
    yield default_paths()
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_what_is_said_stands_in_the_store_alone(logged, driver, monkeypatch, tmp_path, capfd):
    """Through every way in which a reply can end, and a comparison."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    window, models = driver.window, driver.program.models
    driver.session.set_options(ChatOptions(system_prompt=SAID, sampling=Sampling(max_tokens=40)))
    driver.chat("A title")
    driver.chat(SAID)
    for directives in ("[fail decode]", "[defect prefill]", "[defect decode]", "[print decode]"):
        driver.chat(f"{SAID} {directives}")
    export_rows(tmp_path / "out.csv", models.stats.rows, models.engine.machine)
    export_rows(tmp_path / "out.md", models.stats.rows, models.engine.machine)
    export_rows(tmp_path / "out.json", models.stats.rows, models.engine.machine)
    window.composer.write(f"{SAID} [tokens 5]")
    window.actions_.compare.trigger()
    compare = window.findChild(CompareWindow)
    compared = []
    compare.compared.connect(compared.append)
    compare.start()
    driver.until(lambda: bool(compared))
    compare.close()
    driver.say(f"{SAID} [abort decode]")
    driver.until(lambda: driver.session.state is ChatState.FAILED)
    assert "last words" in logged.log_file.read_text()
    assert SAID not in models.engine.stderr_tail
    driver.program.report(ValueError, ValueError("a defect"), None)

    assert holding(tmp_path, SAID) == [], "figures and titles"
    (kept,) = ComparisonFile(logged.comparisons).of_conversation(driver.session.conversation.id)
    export_rows(tmp_path / "compared.json", models.stats.rows, models.engine.machine, [kept])
    assert holding(tmp_path, SAID) == [tmp_path / "compared.json"], "a comparison is exported with its texts"
    holders = {path.name.removesuffix("-wal") for path in holding(logged.data.parent, SAID)}
    assert holders == {logged.database.name, logged.comparisons.name}
    assert open_to_others(logged.data.parent) == []
    assert {path.parent.name for path in logged.data.rglob("*.jsonl")} == {"data", "sessions"}
    assert {"nibble.sqlite3-wal", "nibble.sqlite3-shm"} <= {path.name for path in logged.data.iterdir()}
    assert open_to_others(tmp_path / "out.json") == []
    assert holding(logged.data.parent, TOKEN) == holding(tmp_path, TOKEN) == []
    printed = capfd.readouterr()
    assert SAID not in printed.out + printed.err
    driver.click("restart_engine")
    driver.until_idle()
