"""For every test: a home folder of its own, and nothing left behind: thread, child process, window, garbage."""

import gc
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import mlx.core as mx
import pytest


def pytest_configure():
    """Compute on the CPU, on a Mac as well: `make kernels-check` is the GPU's test."""
    mx.set_default_device(mx.Device(mx.cpu))


def pytest_collection_finish():
    """Have no garbage collected while a test runs.

    Python collects on whatever thread makes the next object, a server's or xdist's own, and a Qt object that dies on
    another thread than its own takes the process along, at once or some tests later.
    """
    gc.collect()
    gc.freeze()  # what all tests share is not gone through again after each
    gc.disable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """Collect the garbage of a test once it has ended, on the main thread."""
    try:
        return (yield)
    finally:
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def session_home(tmp_path_factory):
    """For what is started before a test's own fixtures are: an engine that a class of tests shares."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIBBLE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")  # never the tester's own keychain
        yield


@pytest.fixture(autouse=True)
def nibble_home(tmp_path_factory, monkeypatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("NIBBLE_HOME", str(home))
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    monkeypatch.setenv("HOME", str(home))  # LM Studio's models lie there
    return home


@pytest.fixture(autouse=True)
def nothing_left_behind(request):
    threads, children = set(threading.enumerate()), _children()
    yield
    left = [t for t in threading.enumerate() if t not in threads and t.is_alive()]
    assert not left, f"threads left running: {left}"
    assert _children() <= children, f"child processes left running: {_children() - children}"
    widgets = sys.modules.get("PySide6.QtWidgets")
    if widgets is not None and widgets.QApplication.instance() is not None:
        shown = [w.objectName() or type(w).__name__ for w in widgets.QApplication.topLevelWidgets() if w.isVisible()]
        assert not shown, f"windows left open: {shown}"


@pytest.fixture
def loop(qapp):
    """A qasync loop on the test's application; `await` works in it, and Qt's events run."""
    from qasync import QEventLoop

    with QEventLoop(qapp) as made:
        yield made


@pytest.fixture
def keychain(monkeypatch, tmp_path):
    """A keychain for the processes that this one starts; the object tells what it holds."""
    monkeypatch.setenv("NIBBLE_TEST_KEYCHAIN", str(tmp_path / "keychain.json"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "tests.keychain.Keychain")
    from tests.keychain import Keychain

    return Keychain()


@pytest.fixture
def hub(monkeypatch):
    """A hub on loopback with one small model, for this process and for those that it starts."""
    from huggingface_hub import constants

    from tests.catalogue import small_model
    from tests.catalogue.local_hub import REPO, LocalHub, Repository

    hub = LocalHub()
    hub.repositories[REPO] = Repository(small_model.files())
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    address = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    yield hub
    hub.close()


def _children() -> set[str]:
    """Ids of this process's children, where the system lists them (Linux)."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    if not tasks.exists():
        return set()
    pids: set[str] = set()
    for task in tasks.iterdir():
        with suppress(OSError):  # a thread that ended in the meantime
            pids.update((task / "children").read_text().split())
    return pids
