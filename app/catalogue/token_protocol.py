"""What the window and the keychain's process say to each other: a line down, a line up. Standard library only.

Keychains answer when a person does, and through other people's code. A thread for that in the window would do harm:
Python collects garbage on any thread, and a Qt object that dies on another thread than its own takes the program along.
"""

import re
import typing
from dataclasses import dataclass, field

from app.chat.lines import decode_line, encode_line
from app.children import child_command

_TOKEN = re.compile(r"[A-Za-z0-9_.~+/=-]{1,500}")


@dataclass(frozen=True, slots=True)
class ReadToken:
    """Say what token is kept."""


@dataclass(frozen=True, slots=True)
class KeepToken:
    """Keep this token in place of the one before."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ForgetToken:
    """Remove the token, if there is one."""


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """It was done. Without a keychain nothing is kept and nothing found."""

    has_keychain: bool
    token: str | None = field(default=None, repr=False)
    """What ReadToken found."""


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """The keychain is locked, its owner said no, or it is broken."""

    message: str
    hint: str


Request = ReadToken | KeepToken | ForgetToken
Answer = TokenAnswer | TokenRefused
_REQUESTS = typing.get_args(Request)
_ANSWERS = typing.get_args(Answer)


def is_token(text: str) -> bool:
    """Return whether `text` can be a token: what may stand in an HTTP header, without spaces."""
    return bool(_TOKEN.fullmatch(text))


def token_command() -> list[str]:
    """Return the program and arguments of a process that answers one request."""
    return child_command("--token")


def encode(item: Request | Answer) -> str:
    """Return `item` as one line of JSON, without the line feed."""
    return encode_line(item)


def decode_request(line: str) -> Request:
    """Read a request. Raises ProtocolError."""
    return typing.cast(Request, decode_line(line, _REQUESTS))


def decode_answer(line: str) -> Answer:
    """Read an answer. Raises ProtocolError."""
    return typing.cast(Answer, decode_line(line, _ANSWERS))
