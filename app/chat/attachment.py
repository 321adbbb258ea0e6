"""Text files that go into a message: written as fenced blocks under their names, and found again in it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_BLOCK = re.compile(
    r"^File `(?P<name>[^`\n]+)`:\n\n(?P<fence>`{3,})(?P<language>\w*)\n(?P<text>.*?)\n?(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)

MOST_FILES = 100
"""Each has controls of its own in the window, and a text that was pasted may look like any number of files."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file's name, without its folder, and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Attached:
    """A message taken apart: what the person wrote, and the files."""

    spoken: str
    files: tuple[Attachment, ...]


def as_block(attachment: Attachment) -> str:
    """Return a file as a fenced block; the fence is longer than any in the file."""
    longest = max((len(run) for run in re.findall(r"`+", attachment.text)), default=0)
    fence = "`" * max(3, longest + 1)
    name = attachment.name.replace("`", "'").replace("\n", " ")
    _, dot, ending = name.rpartition(".")
    language = ending if dot and re.fullmatch(r"\w{1,12}", ending) else ""
    end = "" if attachment.text.endswith("\n") else "\n"
    return f"File `{name}`:\n\n{fence}{language}\n{attachment.text}{end}{fence}"


def with_attachments(text: str, attachments: Sequence[Attachment]) -> str:
    """Return a message with its files behind what the person wrote."""
    return "\n\n".join([*([text.strip()] if text.strip() else []), *map(as_block, attachments)])


def attached_in(text: str) -> Attached:
    """Take a message apart again; one with more than `MOST_FILES` is left whole."""
    files = tuple(Attachment(found["name"], found["text"]) for found in _BLOCK.finditer(text))
    if len(files) > MOST_FILES:
        return Attached(text, ())
    return Attached(_BLOCK.sub("", text).strip() if files else text, files)
