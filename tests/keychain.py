"""A keychain for tests."""

import threading

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked


class Keychain(KeyringBackend):
    """Holds passwords in memory, and is locked on demand."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False
        self.asked = 0
        self.opening = threading.Event()
        self.opening.set()

    def _check(self) -> None:
        self.opening.wait(10)
        self.asked += 1
        if self.is_locked:
            raise KeyringLocked("the person said no")

    def get_password(self, service, username):
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service, username):
        self._check()
        del self.kept[service, username]
