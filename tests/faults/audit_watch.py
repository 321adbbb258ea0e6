"""What Python does while a model folder from anywhere is read, as its audit events tell."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TOUCHING = (
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "pickle.find_class",
    "builtins.input",
    "ftplib.connect",
    "urllib.Request",
)
CHANGING = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
    "shutil.rmtree",
)


class Watch:
    """Notes what Python does that a folder must not make it do. Hooks stay for ever, so that there is one."""

    def __init__(self):
        self.is_on = False
        self.seen = []
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if not self.is_on:
            return
        if event in TOUCHING or event in CHANGING or (event == "open" and writes(arguments)):
            self.seen.append((event, str(arguments)[:200]))
        elif event == "import" and "evil" in str(arguments[0]):
            self.seen.append((event, str(arguments[0])))

    @contextmanager
    def on(self) -> Iterator[None]:
        """Note in `seen`, which is empty at first, what happens inside."""
        self.seen.clear()
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False


def writes(arguments) -> bool:
    path, mode, flags = arguments
    if str(path).endswith((".pyc", ".pyo")) or "__pycache__" in str(path):
        return False
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if isinstance(flags, int) else "w" in (mode or "")


WATCH = Watch()
