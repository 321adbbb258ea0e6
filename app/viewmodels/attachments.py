"""The text files that go with the next message: read, checked, counted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from app.chat.attachment import Attachment, as_block, with_attachments
from app.engine.protocol import Counted, CountTokens, Failed
from app.errors import NibbleError
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.open_model import OpenModel
from app.viewmodels.panel_state import format_bytes

MOST_BYTES = 8_000_000
"""A longer file is refused unread: it is beyond any context, and reading it would keep the window waiting."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One file as it is shown."""

    name: str
    detail: str
    """Its size and its tokens, in words."""


@dataclass(frozen=True, slots=True)
class _Item:
    attachment: Attachment
    size_bytes: int
    request_id: str
    tokens: int | None = None
    is_uncountable: bool = False


class Attachments(QObject):
    """What is attached; every file that cannot be taken is refused in words."""

    changed = Signal()
    refused = Signal(str, str)
    """Message, hint."""

    def __init__(self, engine: EngineClient, model: OpenModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._engine = engine
        self._model = model
        self._items: list[_Item] = []
        engine.event_received.connect(self._receive)
        engine.died.connect(self._lose_engine)
        model.opened.connect(self._count_again)

    @property
    def chips(self) -> tuple[Chip, ...]:
        """The files, in the order in which they came."""
        return tuple(Chip(item.attachment.name, _detail(item)) for item in self._items)

    def add(self, paths: Sequence[Path]) -> None:
        """Attach files."""
        for path in paths:
            try:
                text, size_bytes = _read(path)
            except NibbleError as error:
                self.refused.emit(error.message, error.hint)
                continue
            self._items.append(self._ask(_Item(Attachment(path.name, text), size_bytes, "")))
        self.changed.emit()

    def remove(self, index: int) -> None:
        """Take a file away again."""
        del self._items[index]
        self.changed.emit()

    def clear(self) -> None:
        """Take all files away."""
        if self._items:
            self._items.clear()
            self.changed.emit()

    def message(self, text: str) -> str:
        """Return what is sent: `text` with the files behind it."""
        return with_attachments(text, [item.attachment for item in self._items])

    def _ask(self, item: _Item) -> _Item:
        request_id = self._engine.new_request_id()
        self._engine.send(CountTokens(request_id, as_block(item.attachment)))
        return replace(item, request_id=request_id, tokens=None, is_uncountable=False)

    def _lose_engine(self, reason: str, stderr_tail: str) -> None:
        """What was being counted is counted again once a model is open."""
        self._items = [replace(item, is_uncountable=item.tokens is None) for item in self._items]
        self.changed.emit()

    def _count_again(self) -> None:
        self._items = [self._ask(item) for item in self._items]
        self.changed.emit()

    def _receive(self, event: object) -> None:
        if not isinstance(event, Counted | Failed):
            return
        for i, item in enumerate(self._items):
            if item.request_id == event.request_id:
                if isinstance(event, Failed):
                    self._items[i] = replace(item, is_uncountable=True)
                elif not self._refuse_too_long(item, event.tokens):
                    self._items[i] = replace(item, tokens=event.tokens)
                self.changed.emit()
                return

    def _refuse_too_long(self, item: _Item, tokens: int) -> bool:
        facts = self._model.facts
        if facts is None or tokens < facts.context_limit_tokens:
            return False
        self._items.remove(item)
        self.refused.emit(
            f"“{item.attachment.name}” has {tokens:,} tokens; {facts.name} can read {facts.context_limit_tokens:,}.",
            "Attach a part of it, or choose a model with a longer context.",
        )
        return True


def _detail(item: _Item) -> str:
    size = format_bytes(item.size_bytes)
    if item.tokens is not None:
        return f"{size}, {item.tokens:,} tokens"
    return f"{size}, tokens unknown" if item.is_uncountable else f"{size}, counting tokens…"


def _read(path: Path) -> tuple[str, int]:
    """Return a file's text and size. Raises NibbleError where it is none that can be attached."""
    name = path.name
    try:
        if path.is_dir():
            raise NibbleError(f"“{name}” is a folder.", "Attach text files one by one.")
        size_bytes = path.stat().st_size
        if size_bytes > MOST_BYTES:
            raise NibbleError(
                f"“{name}” has {format_bytes(size_bytes)}; Nibble attaches up to {format_bytes(MOST_BYTES)}.",
                "Attach a part of it.",
            )
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NibbleError(f"“{name}” is not UTF-8 text.", "Save it as plain text in UTF-8, then attach that.") from None
    except OSError as error:
        raise NibbleError(f"“{name}” could not be read: {error.strerror}.", "Check that it is still there.") from None
    if "\0" in text:
        raise NibbleError(f"“{name}” is not plain text.", "Nibble attaches text files only.")
    if not text.strip():
        raise NibbleError(f"“{name}” is empty.", "There is nothing in it to read.")
    return text.replace("\r\n", "\n"), size_bytes
