"""One message in the transcript: the person's in a bubble, the model's as a page with its figures below."""

import time

from PySide6.QtCore import QRect, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QGuiApplication, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.chat.attachment import attached_in
from app.chat.figures import ReplyFigures
from app.chat.message import Role
from app.chat.reasoning import Parts, parts_of
from app.store.store import MessageState, StoredMessage
from app.ui.controls import Bubble, SignButton
from app.ui.disclosure import Disclosure
from app.ui.message_text import MessageText
from app.ui.reasoning_part import ReasoningPart
from app.ui.theme import GAP, TIGHT, SubtleLabel
from app.ui.version_switch import VersionSwitch
from app.viewmodels.panel_state import format_bytes, format_seconds, format_speed

BUBBLE_SHARE = 0.85
RENDER_SHARE = 0.05
"""Most of the window's time that writing a growing text may take; to paint it takes about as much again."""
QUICK_S = 0.01
"""A text that is written in so short a time is written whenever it changes."""
_ENDINGS = {MessageState.CANCELLED: "Stopped", MessageState.FAILED: "Cut off: the engine failed here"}


class MessageView(QWidget):
    """Shows one StoredMessage and follows it while it grows."""

    link_activated = Signal(QUrl)
    regenerate_asked = Signal()
    edit_asked = Signal()
    version_chosen = Signal(int)
    """The message id of another version."""
    rendered = Signal(object)
    """This view: it shows its text."""

    def __init__(self, stored: StoredMessage, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._stored = stored
        self._parts = Parts(None, "")
        self._is_last = False
        self._took_s = (0.0, 0.0)
        self._later = QTimer(self, singleShot=True)
        self._later.timeout.connect(self._render)
        self.text = MessageText()
        self.text.setObjectName(f"message_text_{stored.id}")
        self.text.anchorClicked.connect(self.link_activated)
        self.reasoning = ReasoningPart(stored.id)
        self.files: list[Disclosure] = []
        """What was attached, folded."""
        self._status = SubtleLabel(factor=0.92)
        self._status.setObjectName(f"message_status_{stored.id}")
        self._copy = SignButton("copy", f"copy_message_{stored.id}", "Copy this message as Markdown")
        self._copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self._parts.answer))
        self._again = SignButton("again", f"regenerate_{stored.id}", "Write this reply again")
        self._again.clicked.connect(self.regenerate_asked)
        self._edit = SignButton("pencil", f"edit_message_{stored.id}", "Edit this message and go on from there")
        self._edit.clicked.connect(self.edit_asked)
        self.versions = VersionSwitch(stored.id)
        self.versions.chosen.connect(self.version_chosen)
        if stored.message.role is Role.USER:
            self._lay_out_user()
        else:
            self._lay_out_reply()
        self.show_message(stored)

    @property
    def stored(self) -> StoredMessage:
        """The message shown."""
        return self._stored

    @property
    def status_text(self) -> str:
        """The line below the text."""
        return self._status.text()

    def show_message(self, stored: StoredMessage) -> None:
        """Show a later version of the message; a text that is slow to draw is drawn less often while it grows."""
        self._stored = stored
        if stored.message.role is Role.USER:
            self._parts = Parts(None, attached_in(stored.message.text).spoken)
        else:
            self._parts = parts_of(stored.message.text, is_growing=stored.state is MessageState.STREAMING)
        name = f"{'You' if stored.message.role is Role.USER else 'Nibble'}: {self._parts.answer[:200]}"
        self.setAccessibleName(name)
        self.text.setAccessibleName(name)
        if stored.state is not MessageState.STREAMING:
            self._later.stop()
            self._render()
        elif (cost_s := min(self._took_s)) <= QUICK_S:
            self._render()
        elif not self._later.isActive():
            self._later.start(round(1000 * cost_s * (1 / RENDER_SHARE - 1)))
        self._show_footer()

    def set_last(self, is_last: bool) -> None:
        """Offer what only the last message can do."""
        self._is_last = is_last
        self._show_footer()

    def show_reasons(self, not_to_ask: str, not_to_turn: str) -> None:
        """Say why no reply can be asked for, and why no other version can be opened; "" where they can."""
        self._again.set_reason(not_to_ask)
        self._edit.set_reason(not_to_ask)
        self.versions.show_reason(not_to_turn)

    # What is found in it: in its reasoning, its text and its files, in the order in which they are shown

    @property
    def match_count(self) -> int:
        """How often what is looked for occurs."""
        return sum(part.match_count for part in self._findable)

    def find_all(self, needle: str) -> None:
        """Mark `needle` wherever it occurs, also as the text changes; "" marks nothing."""
        for part in self._findable:
            part.find_all(needle)

    def show_match(self, index: int | None) -> None:
        """Mark one of the matches as the current one, or none."""
        found = None if index is None else self._part_of(index)
        for part in self._findable:
            part.show_match(found[1] if found is not None and found[0] is part else None)

    def unfold_match(self, index: int) -> None:
        """Unfold the part that a match is in."""
        if (found := self._part_of(index)) is not None:
            found[0].unfold_match(found[1])

    def match_area(self, index: int) -> QRect:
        """Return where a match stands; an empty rectangle where there are not so many."""
        if (found := self._part_of(index)) is None:
            return QRect()
        area = found[0].match_area(found[1])
        return QRect(found[0].mapTo(self, area.topLeft()), area.size())

    @property
    def _findable(self) -> list[Disclosure | MessageText]:
        return [self.reasoning, self.text, *self.files]

    def _part_of(self, index: int) -> tuple[Disclosure | MessageText, int] | None:
        for part in self._findable:
            if index < part.match_count:
                return part, index
            index -= part.match_count
        return None

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep a bubble as narrow as its text."""
        super().resizeEvent(event)
        if self._stored.message.role is Role.USER:
            self.text.setFixedWidth(min(self.text.natural_width(), round(self.width() * BUBBLE_SHARE) - 28))

    def _lay_out_user(self) -> None:
        self._bubble = Bubble()
        inside = QHBoxLayout(self._bubble)
        inside.setContentsMargins(14, 9, 14, 9)
        inside.addWidget(self.text)
        row = QHBoxLayout()
        row.setSpacing(TIGHT)
        row.addStretch(1)
        row.addWidget(self._edit)
        row.addWidget(self._bubble)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(TIGHT)
        column.addLayout(row)
        for i, file in enumerate(attached_in(self._stored.message.text).files):
            part = Disclosure("attached", f"{self._stored.id}_{i}", file.name, at_right=True)
            part.show_content(file.name, file.text)
            self.files.append(part)
            column.addWidget(part)
        column.addWidget(self.versions, 0, Qt.AlignmentFlag.AlignRight)
        for unused in (self._status, self._copy, self._again, self.reasoning):
            unused.setParent(self)
            unused.hide()

    def _lay_out_reply(self) -> None:
        footer = QHBoxLayout()
        footer.setContentsMargins(0, 0, 0, 0)
        footer.setSpacing(2)
        footer.addWidget(self.versions)
        footer.addWidget(self._copy)
        footer.addWidget(self._again)
        footer.addSpacing(GAP)
        footer.addWidget(self._status, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(TIGHT)
        column.addWidget(self.reasoning)
        column.addWidget(self.text)
        column.addLayout(footer)
        self._edit.setParent(self)
        self._edit.hide()

    def _render(self) -> None:
        started_s = time.thread_time()
        message = self._stored.message
        if message.role is Role.USER:
            self.text.show_plain(self._parts.answer)
            self._bubble.setVisible(bool(self._parts.answer))
        else:
            self.reasoning.show_parts(self._parts, self._stored.reasoning_s)
            self.text.setVisible(bool(self._parts.answer) or not self._parts.is_thinking)
            is_growing = self._stored.state is MessageState.STREAMING
            self.text.show_markdown(self._parts.answer, is_growing=is_growing)
        # The lesser of two counts: once in a while something is loaded as well.
        self._took_s = (self._took_s[1], time.thread_time() - started_s)
        self.rendered.emit(self)

    def _show_footer(self) -> None:
        streaming = self._stored.state is MessageState.STREAMING
        if self._stored.message.role is Role.USER:
            return
        self._copy.setVisible(not streaming and bool(self._parts.answer))
        self._again.setVisible(not streaming and self._is_last)
        self._status.setText("…" if streaming and not self._stored.message.text else self._summary())

    def _summary(self) -> str:
        parts = []
        if ending := _ENDINGS.get(self._stored.state):
            parts.append(ending)
        if self._stored.figures is not None:
            parts += _figures(self._stored.figures)
        return "  ·  ".join(parts)


def _figures(figures: ReplyFigures) -> list[str]:
    cache = figures.cache
    kept = f"{cache.mode.value} cache {format_bytes(cache.allocated_bytes)}"
    if cache.ratio >= 1.005:
        kept += f", {cache.ratio:.2f}x smaller than fp16"
    parts = [kept]
    if figures.decode_tokens_per_s > 0:
        parts.append(format_speed(figures.decode_tokens_per_s))
    if figures.ttft_s > 0:
        parts.append(f"first token {format_seconds(figures.ttft_s)}")
    if figures.finish_reason == "length":
        parts.append("length limit reached")
    elif figures.finish_reason == "memory":
        parts.append("memory budget reached")
    return parts
