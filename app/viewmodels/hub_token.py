"""The Hugging Face access token for the views: keychains answer when a person does, so they are asked on a thread."""

import logging
import threading
from collections.abc import Callable

from PySide6.QtCore import QObject, Qt, Signal

from app.catalogue.access_token import AccessToken
from app.errors import NibbleError

_log = logging.getLogger(__name__)


class HubToken(QObject):
    """Reads, keeps and removes the token. It goes to downloads alone; views learn whether there is one."""

    changed = Signal()
    """Something below is known that was not, or changed."""
    failed = Signal(str, str)
    """The keychain refused: message, hint."""
    _answered = Signal(object, object)
    """Carries from a thread to this object's own: what to call, with what."""

    def __init__(self, token: AccessToken, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._token = token
        self._is_there: bool | None = None
        self._has_keychain: bool | None = None
        self._busy = 0
        self._answered.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    @property
    def is_there(self) -> bool | None:
        """Whether there is a token; None until `look` or `read` has an answer."""
        return self._is_there

    @property
    def has_keychain(self) -> bool | None:
        """Whether it is kept after the program ends; None until that is known."""
        return self._has_keychain

    @property
    def is_busy(self) -> bool:
        """Whether the keychain is being asked."""
        return self._busy > 0

    def look(self) -> None:
        """Find out whether there is a token."""
        self._ask(self._token.read, self._note)

    def read(self, then: Callable[[str | None], None]) -> None:
        """Call `then` with the token, or with None where there is none or the keychain keeps it."""

        def pass_on(token: str | None) -> None:
            self._note(token)
            then(token)

        self._ask(self._token.read, pass_on)

    def save(self, token: str) -> None:
        """Keep `token` in place of the one before; `changed` or `failed` tells what came of it."""
        self._ask(lambda: self._token.save(token), lambda _: self.look())

    def remove(self) -> None:
        """Forget the token; `changed` or `failed` tells what came of it."""
        self._ask(self._token.remove, lambda _: self.look())

    def _ask(self, call: Callable[[], str | None], then: Callable[[str | None], None]) -> None:
        """Make `call` on a thread, then call `then` with its answer on this one; after a refusal with None."""
        self._busy += 1
        self.changed.emit()
        threading.Thread(target=self._work, args=(call, then), name="keychain", daemon=True).start()

    def _work(self, call: Callable[[], str | None], then: Callable[[str | None], None]) -> None:
        try:
            answer: object = (call(), self._token.has_keychain())
        except NibbleError as error:
            answer = error
        except Exception as error:  # keychains are reached through other people's code: downloads go on without
            _log.exception("the keychain could not be asked")
            reason = f"The keychain could not be asked: {type(error).__name__}: {error}"
            answer = NibbleError(reason, "Downloads go on without an access token.")
        try:
            self._answered.emit(then, answer)
        except RuntimeError:  # the window was closed while a person was being asked
            _log.info("the keychain answered too late")

    def _deliver(self, then: Callable[[str | None], None], answer: object) -> None:
        self._busy -= 1
        if isinstance(answer, tuple):
            value, self._has_keychain = answer
            then(value)
        else:
            assert isinstance(answer, NibbleError)
            _log.warning("%s", answer.message)
            self.failed.emit(answer.message, answer.hint)
            then(None)
        self.changed.emit()

    def _note(self, token: str | None) -> None:
        self._is_there = token is not None
