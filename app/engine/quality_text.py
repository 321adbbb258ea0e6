"""The texts that quality is measured on, as windows of tokens: two that come with Nibble, or one of the person's own.

The bundled ones are no part of the text that calibration reads. The dialogues go through the model's chat template.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from app.chat.quality import TextKind, TextSource
from app.errors import NibbleError
from app.resources import resources_path

_TOKEN_CHARACTERS = 16
"""More than a token has on average with any tokenizer: as much of a long text is cut up as will be read."""
_SPEAKER = re.compile(r"^(system|user|assistant): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class QualityText:
    """A text and what it is called. `dialogues`: it is in the form of resources/quality_chat.txt."""

    name: str
    text: str
    dialogues: bool = False

    @property
    def sha256(self) -> str:
        """Hash of the text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def bundled_texts() -> tuple[QualityText, ...]:
    """Return prose and dialogues, about 30 KB each; resources/README.md says where they come from."""
    prose, chat = (resources_path() / f"quality_{kind}.txt" for kind in ("prose", "chat"))
    return (
        QualityText("bundled prose", prose.read_text(encoding="utf-8")),
        QualityText("bundled chat", chat.read_text(encoding="utf-8"), dialogues=True),
    )


def text_of(source: TextSource) -> QualityText:
    """Return the text that was chosen. Raises NibbleError."""
    if source.kind is TextKind.FILE:
        return own_text(Path(source.path).expanduser())
    prose, chat = bundled_texts()
    return prose if source.kind is TextKind.PROSE else chat


def own_text(path: Path) -> QualityText:
    """Return the text of a file. Raises NibbleError."""
    try:
        return QualityText(path.name, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NibbleError(f"The text in {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise NibbleError(f"{path} is not text in UTF-8.", "Save it as UTF-8, or name another file.") from None


def windows_of(text: QualityText, tokenizer: Any, count: int, context: int) -> list[list[int]]:
    """Return `count` windows of `context` tokens and the token after them, one after the other from the beginning.

    Each begins with the token that this tokenizer begins every text with, if there is one. Raises NibbleError where the
    text is too short.
    """
    lead = list(tokenizer.encode(""))[:1]
    fresh = context - len(lead)
    needed = count * fresh + 1
    tokens = _tokens(text, tokenizer, needed + len(lead))
    if lead and tokens[:1] == lead:
        tokens = tokens[1:]
    if len(tokens) < needed:
        raise NibbleError(
            f"The text {text.name} has {len(tokens):,} tokens of this model; {count} windows of {context:,} need "
            f"{needed:,}.",
            "Choose a longer text, fewer windows or a shorter context.",
        )
    return [lead + tokens[i * fresh : (i + 1) * fresh + 1] for i in range(count)]


def dialogues_in(text: str) -> list[list[dict[str, str]]]:
    """Read conversations: parted by lines of `---`, each message begun by `user: `, `assistant: ` or `system: `."""
    conversations = []
    for part in text.split("\n---\n"):
        _, *pieces = _SPEAKER.split(part.strip())
        turns = zip(pieces[::2], pieces[1::2], strict=True)
        conversations.append([{"role": role, "content": content.strip()} for role, content in turns])
    return conversations


def _tokens(text: QualityText, tokenizer: Any, needed: int) -> list[int]:
    """Return the text's tokens, all of them or at least those that are needed."""
    if not text.dialogues or not tokenizer.has_chat_template:
        beginning = list(tokenizer.encode(text.text[: needed * _TOKEN_CHARACTERS]))
        # Of a beginning cut in the middle of a word the last token may be another than in the text.
        return beginning if len(beginning) > needed else list(tokenizer.encode(text.text))
    tokens: list[int] = []
    try:
        for turns in dialogues_in(text.text):
            tokens += tokenizer.apply_chat_template(_without_system(turns))
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        raise NibbleError(
            f"This model's chat template failed: {error}", "Its tokenizer_config.json may be damaged: fetch it again."
        ) from error
    return tokens


def _without_system(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Some templates refuse a system's message; leaving it out makes one text for all models."""
    return [turn for turn in turns if turn["role"] != "system"]
