"""What the window and a download's process say to each other, as lines of JSON. Standard library only.

One Fetch goes down the child's stdin, whose end stops the download. Events come up its stdout: Planned, then Progress,
Waiting and Checking as they come, at the end Finished or Failed. A download that was stopped says neither.
"""

import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from app.chat.lines import decode_line, encode_line
from app.children import child_command


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch a repository of models; `revision` is a branch, tag or commit."""

    repo: str
    revision: str = "main"
    token: str | None = field(default=None, repr=False)
    """Sent to the hub alone, and shown nowhere."""


class FailureKind(StrEnum):
    """What a download failed of, as far as the window treats it differently or tests tell it apart."""

    OFFLINE = "offline"
    BUSY = "busy"
    """The hub goes on refusing for now."""
    NOT_FOUND = "not found"
    TOKEN_WANTED = "token wanted"
    """Gated or refused for want of a token that the hub accepts."""
    NO_ACCESS = "no access"
    """The token is good, its owner may not have this model."""
    DISK = "disk"
    CORRUPT = "corrupt"
    """What came is not what the hub says it is; it is not kept."""
    UNSUITABLE = "unsuitable"
    """The repository holds no model that Nibble could open."""
    IN_USE = "in use"
    """Another program is fetching the same files."""
    DEFECT = "defect"


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be fetched is known, and there is room for it."""

    files: int
    bytes_total: int
    bytes_done: int
    """Already on this disk."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Some more has come; a few times a second."""

    bytes_done: int
    bytes_per_s: float | None
    """Over the last seconds; None until there is something to go by."""
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing comes at the moment, and it will be tried again in some seconds."""

    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Checking:
    """All is fetched, and is compared with the hub's checksums."""

    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The model is whole in `folder`."""

    folder: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The download ended without the model. What was fetched and is sound stays for the next try."""

    kind: FailureKind
    message: str
    hint: str = ""
    detail: str = ""


Event = Planned | Progress | Waiting | Checking | Finished | Failed
Emit = Callable[[Event], None]
_EVENTS = typing.get_args(Event)


def download_command() -> list[str]:
    """Return the program and arguments of a download's process."""
    return child_command("--download")


def encode(item: Fetch | Event) -> str:
    """Return `item` as one line of JSON, without the line feed."""
    return encode_line(item)


def decode_fetch(line: str) -> Fetch:
    """Read the request. Raises ProtocolError."""
    return typing.cast(Fetch, decode_line(line, (Fetch,)))


def decode_event(line: str) -> Event:
    """Read one event. Raises ProtocolError."""
    return typing.cast(Event, decode_line(line, _EVENTS))
