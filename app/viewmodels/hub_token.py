"""The Hugging Face access token for the views and the downloads; a process of its own asks the keychain."""

import logging
from collections import deque
from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject, Signal

from app.catalogue.token_protocol import (
    Answer,
    ForgetToken,
    KeepToken,
    ReadToken,
    Request,
    TokenAnswer,
    TokenRefused,
    decode_answer,
    encode,
    is_token,
)
from app.chat.lines import ProtocolError
from app.viewmodels.child_process import ChildProcess

_log = logging.getLogger(__name__)

Then = Callable[[], None]


class HubToken(QObject):
    """Reads, keeps and removes the token. It goes to downloads alone; views learn whether there is one.

    Once read or given it is known until the program ends, also where no keychain keeps it. The keychain is asked one
    thing after the other.
    """

    changed = Signal()
    """Something below is known that was not, or changed."""
    failed = Signal(str, str)
    """The keychain refused, or what was given is no token: message, hint."""

    def __init__(self, command: Sequence[str], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._command = command
        self._token: str | None = None
        self._is_known = False
        self._has_keychain: bool | None = None
        self._waiting: deque[tuple[Request, Then]] = deque()
        self._child: ChildProcess | None = None
        self._answer: Answer | None = None
        self._closing = False

    @property
    def is_there(self) -> bool | None:
        """Whether there is a token; None until that is known."""
        return self._token is not None if self._is_known else None

    @property
    def has_keychain(self) -> bool | None:
        """Whether it is kept after the program ends; None until that is known."""
        return self._has_keychain

    @property
    def is_busy(self) -> bool:
        """Whether the keychain is being asked."""
        return self._child is not None

    def look(self) -> None:
        """Find out whether there is a token."""
        self.read(lambda _: None)

    def read(self, then: Callable[[str | None], None]) -> None:
        """Call `then` with the token, or with None where there is none or the keychain refuses."""
        if self._is_known:
            then(self._token)
        else:
            self._ask(ReadToken(), lambda: then(self._token))

    def save(self, token: str) -> None:
        """Keep `token` in place of the one before; `changed` or `failed` tells what came of it."""
        token = token.strip()
        if not is_token(token):
            hint = "A token is one word that begins with hf_; copy it without anything else."
            self.failed.emit("This is no access token.", hint)
            self.changed.emit()
            return
        self._know(token)
        self._ask(KeepToken(token), lambda: None)

    def remove(self) -> None:
        """Forget the token; `changed` or `failed` tells what came of it."""
        self._know(None)
        self._ask(ForgetToken(), lambda: None)

    async def close(self) -> None:
        """Give up what the keychain is asked; returns once the process is gone."""
        self._closing = True
        if (child := self._child) is not None:
            child.kill("Nibble ends.")
            await child.gone()

    def _know(self, token: str | None) -> None:
        self._token, self._is_known = token, True

    def _ask(self, request: Request, then: Then) -> None:
        self._waiting.append((request, then))
        self._ask_next()
        self.changed.emit()

    def _ask_next(self) -> None:
        if self._child is not None or self._closing or not self._waiting:
            return
        request, then = self._waiting.popleft()
        self._answer = None
        child = self._child = ChildProcess(self._command, "The keychain's process", self)
        child.line_received.connect(self._take)
        child.ended.connect(lambda _code, reason: self._settle(request, then, reason))
        child.start()
        child.write(encode(request))

    def _take(self, line: str) -> None:
        try:
            self._answer = decode_answer(line)
        except ProtocolError:
            _log.error("the keychain's process said what cannot be read")  # not what: a token may be in it

    def _settle(self, request: Request, then: Then, reason: str) -> None:
        self._child = None
        if self._closing:
            return
        answer = self._answer or TokenRefused(reason, "Try again; downloads that need no token go on without.")
        if isinstance(answer, TokenAnswer):
            self._has_keychain = answer.has_keychain
            if isinstance(request, ReadToken) and not self._is_known:
                self._know(answer.token)
        else:
            _log.warning("%s", answer.message)
            self.failed.emit(answer.message, answer.hint)
        self._ask_next()
        then()
        self.changed.emit()
