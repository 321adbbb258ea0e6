"""A keychain for tests: `PYTHON_KEYRING_BACKEND` makes child processes use it, and a file holds what it holds."""

import json
import os
import time
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from app.catalogue.token_process import ACCOUNT, SERVICE

FILE_VARIABLE = "NIBBLE_TEST_KEYCHAIN"


class Keychain(KeyringBackend):
    """Keeps one password, is locked or slow on demand. In a test the same object tells and changes what is kept."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self._file = Path(os.environ[FILE_VARIABLE])

    @property
    def state(self) -> dict:
        return json.loads(self._file.read_text()) if self._file.exists() else {"token": None, "asked": 0, "mood": ""}

    def change(self, **values) -> None:
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self.state | values))
        part.replace(self._file)

    @property
    def token(self) -> str | None:
        return self.state["token"]

    @property
    def asked(self) -> int:
        return self.state["asked"]

    def _ask(self, service: str, username: str) -> None:
        assert (service, username) == (SERVICE, ACCOUNT)
        self.change(asked=self.asked + 1)
        while self.state["mood"] == "thinking":
            time.sleep(0.01)
        if self.state["mood"] == "locked":
            raise KeyringLocked("the person said no")
        if self.state["mood"] == "broken":
            raise ZeroDivisionError("a defect")
        if self.state["mood"] == "dead":
            os._exit(5)

    def get_password(self, service, username):
        self._ask(service, username)
        return self.token

    def set_password(self, service, username, password):
        self._ask(service, username)
        self.change(token=password)

    def delete_password(self, service, username):
        self._ask(service, username)
        self.change(token=None)
