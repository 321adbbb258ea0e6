"""The open conversation: what was said, what is being written, and what can be done next."""

from PySide6.QtCore import QObject, QTimer, Signal

from app.chat.figures import ReplyFigures
from app.chat.message import Message, Role, title_from
from app.chat.options import ChatOptions
from app.engine.protocol import (
    Cancel,
    Failed,
    Finished,
    Forget,
    Generate,
    Prefill,
    Progress,
    Token,
)
from app.store.store import Conversation, MessageState, Store, StoredMessage
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.open_model import OpenModel
from app.viewmodels.panel_state import PanelState, empty_panel, format_speed, panel_of, prefill_panel
from app.viewmodels.reply import ChatState, Reply, turns
from app.viewmodels.settings_model import SettingsModel

PUBLISH_INTERVAL_MS = 100
"""The transcript hears of new text this often: drawing markdown for every token would be quadratic."""
STORE_INTERVAL_MS = 500
"""A crash loses at most this much of a reply."""


_CLOSED = {
    ChatState.FAILED: "The engine is not running; restart it to go on.",
    ChatState.NO_MODEL: "Open a model to go on.",
}


class ChatSession(QObject):
    """Decides everything about the conversation that is open; views are told.

    A new chat has no row in the store until its first message. A reply goes on when another conversation is opened;
    meanwhile `state` is BUSY there, since the engine writes one reply at a time.
    """

    conversation_changed = Signal()
    """Another conversation is open, or its title or options changed, or it was deleted."""
    messages_reset = Signal()
    """`messages` is to be read anew."""
    message_added = Signal(object)
    """StoredMessage."""
    message_changed = Signal(object)
    """StoredMessage."""
    state_changed = Signal(object)
    """ChatState."""
    activity_changed = Signal(str)
    """What is going on, in words; "" when nothing is."""
    panel_changed = Signal(object)
    """PanelState."""
    reply_finished = Signal(str, object)
    """Conversation title, ReplyFigures."""
    failed = Signal(str, str, str)
    """Message, hint, detail."""

    def __init__(
        self,
        engine: EngineClient,
        model: OpenModel,
        store: Store,
        settings: SettingsModel,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._model = model
        self._store = store
        self._settings = settings
        self._conversation: Conversation | None = None
        self._options = settings.settings.chat
        self._messages: list[StoredMessage] = []
        self._reply: Reply | None = None
        self._activity = ""
        self._announced = ChatState.NO_MODEL
        self._panel = empty_panel(None, self._options)
        self._publish_timer = QTimer(self, interval=PUBLISH_INTERVAL_MS)
        self._publish_timer.timeout.connect(self._publish)
        self._store_timer = QTimer(self, interval=STORE_INTERVAL_MS)
        self._store_timer.timeout.connect(self._save_text)
        engine.event_received.connect(self._receive)
        engine.died.connect(self._lose_engine)
        model.changed.connect(self._follow_model)
        model.failed.connect(self.failed)
        settings.changed.connect(self._adopt_settings)

    # What stands

    @property
    def state(self) -> ChatState:
        """What the open conversation can do now."""
        if self._model.engine_is_down:
            return ChatState.FAILED
        if self._model.is_loading:
            return ChatState.LOADING
        if self._reply is not None:
            return self._reply.state if self._is_open(self._reply) else ChatState.BUSY
        return ChatState.NO_MODEL if self._model.facts is None else ChatState.IDLE

    @property
    def conversation(self) -> Conversation | None:
        """The conversation that is open; None for a new chat without messages."""
        return self._conversation

    @property
    def title(self) -> str:
        """The open conversation's title."""
        return self._conversation.title if self._conversation is not None else "New chat"

    @property
    def options(self) -> ChatOptions:
        """The open conversation's options, used from the next reply on."""
        return self._options

    @property
    def messages(self) -> tuple[StoredMessage, ...]:
        """The open conversation's messages."""
        return tuple(self._messages)

    @property
    def activity(self) -> str:
        """What is going on, in words."""
        return self._activity

    @property
    def panel(self) -> PanelState:
        """The live figures of the open conversation."""
        return self._panel

    @property
    def last_user_message(self) -> StoredMessage | None:
        """The message that `regenerate` answers again and `replace_last` replaces."""
        return next((m for m in reversed(self._messages) if m.message.role is Role.USER), None)

    # The model

    def load_model(self, path: str) -> None:
        """Open the model folder at `path` ("" is the starter); a reply under way is stopped first."""
        self.stop()
        self._model.load(path)

    # Conversations

    def new_chat(self) -> None:
        """Begin a conversation with the default options."""
        self._show(None)

    def open(self, conversation_id: int) -> None:
        """Open a stored conversation."""
        if self._conversation is None or self._conversation.id != conversation_id:
            self._save_text()
            self._show(self._store.conversation(conversation_id))

    def rename(self, conversation_id: int, title: str) -> None:
        """Give a conversation another title; an empty one changes nothing."""
        title = " ".join(title.split())
        if not title:
            return
        self._store.rename(conversation_id, title)
        if self._reply is not None and self._reply.conversation_id == conversation_id:
            self._reply.conversation_title = title
        self._reread(conversation_id)

    def delete(self, conversation_id: int) -> None:
        """Delete a conversation with its messages, its cache and the reply it may be getting."""
        reply = self._reply
        if reply is not None and reply.conversation_id == conversation_id and not reply.discarded:
            self.stop()
            reply.discarded = True
        self._engine.send(Forget(_chat_id(conversation_id)))
        self._store.delete(conversation_id)
        if self._conversation is not None and self._conversation.id == conversation_id:
            self._show(None)
        else:
            self.conversation_changed.emit()

    def set_options(self, options: ChatOptions) -> None:
        """Set the open conversation's options, from the next reply on."""
        if options == self._options:
            return
        self._options = options
        if self._conversation is not None:
            self._store.set_options(self._conversation.id, options)
            self._reread(self._conversation.id)
        else:
            self.conversation_changed.emit()
        if not any(m.figures for m in self._messages):
            self._set_panel(empty_panel(self._model.facts, options))

    # Messages

    def send(self, text: str) -> bool:
        """Say something and ask for a reply; False where that cannot be done now."""
        if self.state is not ChatState.IDLE or not text.strip():
            return False
        conversation = self._conversation
        if conversation is None:
            conversation = self._store.create_conversation(title_from(text), self._model.path, self._options)
            self._conversation = conversation
        elif conversation.model_path != self._model.path:
            self._store.set_model(conversation.id, self._model.path)
        self._add(conversation, Message(Role.USER, text.strip()))
        self._ask(conversation)
        return True

    def replace_last(self, text: str) -> bool:
        """Say something else instead of the last user message; what followed it is deleted."""
        last = self.last_user_message
        if last is None or self.state is not ChatState.IDLE or not text.strip():
            return False
        self._delete_from(last)
        return self.send(text)

    def regenerate(self) -> bool:
        """Have the last user message answered again; False where that cannot be done now."""
        last = self.last_user_message
        if last is None or self._conversation is None or self.state is not ChatState.IDLE:
            return False
        after = self._messages.index(last) + 1
        if after < len(self._messages):
            self._delete_from(self._messages[after])
        self._ask(self._conversation)
        return True

    def stop(self) -> None:
        """Stop opening a model, or the reply under way here or in another conversation; what was written is kept."""
        if self._model.is_loading:
            self._model.cancel()
        reply = self._reply
        if reply is not None and reply.state is not ChatState.STOPPING:
            reply.state, reply.activity = ChatState.STOPPING, "Stopping"
            self._engine.send(Cancel(reply.request_id))
            self._tell()

    def close(self) -> None:
        """Store what was written so far; the last call before the store is closed."""
        if self._reply is not None:
            self._end_reply(MessageState.CANCELLED)

    # Inside

    def _is_open(self, reply: Reply) -> bool:
        return self._conversation is not None and self._conversation.id == reply.conversation_id

    def _show(self, conversation: Conversation | None) -> None:
        self._conversation = conversation
        self._options = self._settings.settings.chat if conversation is None else conversation.options
        self._messages = [] if conversation is None else self._store.messages(conversation.id)
        figures = next((m.figures for m in reversed(self._messages) if m.figures is not None), None)
        panel = empty_panel(self._model.facts, self._options) if figures is None else self._panel_of(figures)
        self.conversation_changed.emit()
        self.messages_reset.emit()
        self._set_panel(panel)
        self._tell()

    def _reread(self, conversation_id: int) -> None:
        if self._conversation is not None and self._conversation.id == conversation_id:
            self._conversation = self._store.conversation(conversation_id)
        self.conversation_changed.emit()

    def _add(self, conversation: Conversation, message: Message, state: MessageState = MessageState.COMPLETE) -> int:
        stored = self._store.add_message(conversation.id, message, state)
        self._messages.append(stored)
        self.message_added.emit(stored)
        return stored.id

    def _delete_from(self, message: StoredMessage) -> None:
        self._store.delete_from(message.id)
        del self._messages[self._messages.index(message) :]
        self.messages_reset.emit()

    def _ask(self, conversation: Conversation) -> None:
        messages = turns(m.message for m in self._messages)
        request_id = self._engine.new_request_id()
        message_id = self._add(conversation, Message(Role.ASSISTANT, ""), MessageState.STREAMING)
        self._reply = Reply(request_id, conversation.id, conversation.title, message_id)
        self._engine.send(Generate(request_id, _chat_id(conversation.id), messages, self._options))
        self._publish_timer.start()
        self._store_timer.start()
        self._tell()
        self._reread(conversation.id)

    def _receive(self, event: object) -> None:
        if self._reply is not None and getattr(event, "request_id", None) == self._reply.request_id:
            self._receive_reply(self._reply, event)
        elif isinstance(event, Failed) and not event.request_id:
            self.failed.emit(event.message, event.hint, event.detail)

    def _receive_reply(self, reply: Reply, event: object) -> None:
        if isinstance(event, Prefill):
            if reply.state is ChatState.PREFILL:
                reply.activity = _reading(event)
                self._tell()
            if self._is_open(reply):
                self._set_panel(prefill_panel(self._panel, event))
        elif isinstance(event, Token):
            self._take_token(reply, event)
        elif isinstance(event, Progress):
            self._take_progress(reply, event)
        elif isinstance(event, Finished):
            self._finish(reply, event)
        elif isinstance(event, Failed):
            self._end_reply(MessageState.FAILED)
            self.failed.emit(event.message, event.hint, event.detail)

    def _take_token(self, reply: Reply, event: Token) -> None:
        if event.text:
            reply.pieces.append(event.text)
        if reply.state is ChatState.PREFILL:
            reply.state, reply.activity = ChatState.DECODING, "Writing"
            self._tell()
            self._publish()

    def _take_progress(self, reply: Reply, event: Progress) -> None:
        if event.decode_tokens_per_s > 0:
            reply.speeds.append(event.decode_tokens_per_s)
        if reply.state is ChatState.DECODING and reply.speeds:
            reply.activity = f"Writing, {format_speed(reply.speeds[-1])}"
            self._tell()
        if self._is_open(reply):
            model = self._model.facts
            panel = panel_of(
                event.cache,
                event.memory,
                event.ttft_s,
                event.prefill_tokens_per_s,
                event.decode_tokens_per_s,
                model.context_limit_tokens if model is not None else 0,
                tuple(reply.speeds),
                model.compute_dtype if model is not None else "",
            )
            self._set_panel(panel)

    def _finish(self, reply: Reply, event: Finished) -> None:
        reply.pieces = [event.text]
        if self._is_open(reply):
            self._set_panel(self._panel_of(event.figures, tuple(reply.speeds)))
        cancelled = event.figures.finish_reason == "cancelled"
        self._end_reply(MessageState.CANCELLED if cancelled else MessageState.COMPLETE, event.figures)
        self.reply_finished.emit(reply.conversation_title, event.figures)

    def _end_reply(self, state: MessageState, figures: ReplyFigures | None = None) -> None:
        reply = self._reply
        if reply is None:
            return
        self._reply = None
        self._publish_timer.stop()
        self._store_timer.stop()
        if not reply.discarded:
            stored = self._store.update_message(reply.message_id, text=reply.text, state=state, figures=figures)
            if self._is_open(reply):
                self._replace(stored)
        self._tell()
        self.conversation_changed.emit()

    def _publish(self) -> None:
        reply = self._reply
        if reply is None or not self._is_open(reply) or reply.pieces_published == len(reply.pieces):
            return
        reply.pieces_published = len(reply.pieces)
        message = Message(Role.ASSISTANT, reply.text)
        self._replace(StoredMessage(reply.message_id, message, MessageState.STREAMING, None))

    def _replace(self, stored: StoredMessage) -> None:
        for i in reversed(range(len(self._messages))):
            if self._messages[i].id == stored.id:
                self._messages[i] = stored
                self.message_changed.emit(stored)
                return

    def _save_text(self) -> None:
        reply = self._reply
        if reply is None or reply.discarded or reply.pieces_stored == len(reply.pieces):
            return
        reply.pieces_stored = len(reply.pieces)
        self._store.update_message(reply.message_id, text=reply.text, state=MessageState.STREAMING)

    def _lose_engine(self, reason: str, stderr_tail: str) -> None:
        self._end_reply(MessageState.FAILED)
        self.failed.emit(reason, "What was written is kept. Restart the engine to go on.", stderr_tail)

    def _follow_model(self) -> None:
        if not any(m.figures for m in self._messages):
            self._set_panel(empty_panel(self._model.facts, self._options))
        self._tell()

    def _adopt_settings(self) -> None:
        if self._conversation is None:
            self.set_options(self._settings.settings.chat)

    def _panel_of(self, figures: ReplyFigures, speeds: tuple[float, ...] = ()) -> PanelState:
        return panel_of(
            figures.cache,
            figures.memory,
            figures.ttft_s,
            figures.prefill_tokens_per_s,
            figures.decode_tokens_per_s,
            figures.context_limit_tokens,
            speeds,
            figures.compute_dtype,
        )

    def _set_panel(self, panel: PanelState) -> None:
        self._panel = panel
        self.panel_changed.emit(panel)

    def _tell(self) -> None:
        state, reply = self.state, self._reply
        activity = self._model.progress
        if reply is not None and not activity:
            busy = f"Nibble is still writing in “{reply.conversation_title}”"
            activity = busy if state is ChatState.BUSY else reply.activity
        activity = activity or _CLOSED.get(state, "")
        if activity != self._activity:
            self._activity = activity
            self.activity_changed.emit(activity)
        if state is not self._announced:
            self._announced = state
            self.state_changed.emit(state)


def _chat_id(conversation_id: int) -> str:
    return f"chat-{conversation_id}"


def _reading(event: Prefill) -> str:
    text = f"Reading {event.done_tokens:,} of {event.total_tokens:,} tokens"
    return f"{text}, {event.reused_tokens:,} already in the cache" if event.reused_tokens else text
