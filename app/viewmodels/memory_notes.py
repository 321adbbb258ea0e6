"""What is said under a reply that the memory budget stopped, and what can be done about it."""

from dataclasses import dataclass, replace

from PySide6.QtCore import QObject, Signal

from app.chat.figures import ModelFacts, ReplyFigures
from app.chat.options import CacheMode
from app.chat.shortage import Shortage, shortage_of, size_text
from app.viewmodels.chat_session import ChatSession
from app.viewmodels.open_model import OpenModel
from app.viewmodels.reply import ChatState


@dataclass(frozen=True, slots=True)
class MemoryNote:
    """The words, and which ways out there are."""

    title: str
    text: str
    offers_int4: bool = False
    has_room: bool = False
    """Whether the reply could be written now: the budget was raised, or the chat switched to int4."""


class MemoryNotes(QObject):
    """Remembers why replies were stopped; speaks of the open chat's last message alone.

    After the next start what is said of a stopped reply follows from its figures; of one that was never begun, nothing.
    """

    changed = Signal()
    """`note` is another, or none."""

    def __init__(self, session: ChatSession, model: OpenModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._model = model
        self._shortages: dict[int, tuple[str, Shortage]] = {}
        """By message: the model's path, and why it was not enough."""
        self._note: MemoryNote | None = None
        session.ran_short.connect(self._remember)
        for signal in (session.messages_reset, session.state_changed, session.conversation_changed, model.changed):
            signal.connect(self._refresh)

    @property
    def note(self) -> MemoryNote | None:
        """What to say under the last message of the open chat."""
        return self._note

    def switch_to_int4(self) -> None:
        """Hold the open chat in int4 from now on, and have its last message answered again."""
        self._session.set_options(replace(self._session.options, cache_mode=CacheMode.INT4))
        self._session.regenerate()

    def _remember(self, message_id: int, shortage: Shortage) -> None:
        self._shortages[message_id] = self._model.path, shortage
        self._refresh()

    def _refresh(self, *_: object) -> None:
        note = self._now()
        if note != self._note:
            self._note = note
            self.changed.emit()

    def _now(self) -> MemoryNote | None:
        messages, facts = self._session.messages, self._model.facts
        if not messages or facts is None or self._session.state is not ChatState.IDLE:
            return None
        last = messages[-1]
        path, shortage = self._shortages.get(last.id, (self._model.path, None))
        if shortage is None and last.figures is not None:
            shortage = _from_figures(last.figures, facts)
        if shortage is None or path != self._model.path:
            return None
        mode = self._session.options.cache_mode
        budget_bytes = shortage.budget_bytes if facts.outlook is None else facts.outlook.memory_bytes
        return memory_note(shortage, has_begun=bool(last.message.text), mode=mode, budget_bytes=budget_bytes)


def _from_figures(figures: ReplyFigures, facts: ModelFacts) -> Shortage | None:
    """Return why a reply of an earlier start was stopped, if the same model is open."""
    if figures.finish_reason != "memory" or figures.model != facts.name or facts.outlook is None:
        return None
    cache = figures.cache
    return shortage_of(facts, facts.outlook, figures.requested_mode, cache.group_size, cache.tokens + 1)


def memory_note(shortage: Shortage, *, has_begun: bool, mode: CacheMode, budget_bytes: int) -> MemoryNote:
    """Return what is said of a reply that was stopped (`has_begun`) or never written, with mode and budget as now."""
    title = "The reply was stopped: the chat would grow beyond the memory budget."
    if not has_begun:
        title = "There is no reply: the chat does not fit in the memory budget."
    in_int4 = shortage.int4_would_fit and mode is CacheMode.INT4
    needed_bytes = shortage.int4_bytes if in_int4 else shortage.needed_bytes
    if needed_bytes <= budget_bytes:
        room = f"It takes {size_text(needed_bytes)}, and the budget is {size_text(budget_bytes)}."
        return MemoryNote("There is room for this chat now.", room, has_room=True)
    text = shortage.text
    offers_int4 = shortage.int4_would_fit and mode is CacheMode.FP16
    if offers_int4:
        text += f" In int4 it takes {size_text(shortage.int4_bytes)} and can grow to {shortage.int4_tokens:,} tokens."
    return MemoryNote(title, text, offers_int4)
