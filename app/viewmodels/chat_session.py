"""The open conversation: what was said, what is being written, and what can be done next."""

from collections.abc import Mapping
from dataclasses import replace

from PySide6.QtCore import QObject, QTimer, Signal

from app.chat.conversation_text import as_markdown
from app.chat.figures import ReplyFigures
from app.chat.message import Role
from app.chat.options import ChatOptions
from app.engine.protocol import Cancel, Failed, Finished, Forget, Generate, Prefill, Progress, Token
from app.errors import NibbleError
from app.store.store import Conversation, MessageState, Store, StoredMessage
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.message_writer import MessageWriter
from app.viewmodels.open_model import OpenModel
from app.viewmodels.panel_state import PanelState, asked_panel, empty_panel, prefill_panel, progress_panel, reply_panel
from app.viewmodels.reply import CLOSED, ChatState, Reply, reading_text, turns, writing_text
from app.viewmodels.settings_model import SettingsModel
from app.viewmodels.turn import store_turn
from app.viewmodels.versions import Versions, versions_of

PUBLISH_INTERVAL_MS = 100
"""The transcript hears of new text this often: drawing markdown for every token would be quadratic."""


class ChatSession(QObject):
    """Decides everything about the conversation that is open; views are told.

    A new chat has no row in the store until its first message. A reply goes on when another conversation is opened;
    meanwhile `state` is BUSY there, since the engine writes one reply at a time. Where the store refuses a reply, it is
    kept here and stored later; `failed` then says so.
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
    ran_short = Signal(int, object)
    """A reply was stopped, or not begun, for want of memory: its message's id, Shortage."""
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
        self._writer = MessageWriter(store, self)
        self._settings = settings
        self._conversation: Conversation | None = None
        self._options = settings.settings.chat
        self._messages: list[StoredMessage] = []
        self._versions: dict[int, Versions] = {}
        self._reply: Reply | None = None
        self._activity = ""
        self._announced = ChatState.NO_MODEL
        self._panel = empty_panel(None, self._options)
        self._publish_timer = QTimer(self, interval=PUBLISH_INTERVAL_MS)
        self._publish_timer.timeout.connect(self._publish)
        engine.event_received.connect(self._receive)
        engine.died.connect(self._lose_engine)
        model.changed.connect(self._follow_model)
        self._writer.failed.connect(self.failed)
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
    def versions(self) -> Mapping[int, Versions]:
        """The versions of those messages that have several, by id."""
        return self._versions

    @property
    def markdown(self) -> str:
        """The open branch of the conversation as one text."""
        return as_markdown(self.title, (m.message for m in self._messages))

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
        """The message that `regenerate` answers again."""
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

    def set_pinned(self, conversation_id: int, is_pinned: bool) -> None:
        """Keep a conversation at the head of the list, or no longer."""
        self._store.set_pinned(conversation_id, is_pinned)
        self._reread(conversation_id)

    def put_aside(self, conversation_id: int) -> None:
        """Stop the reply that a conversation may be getting and close it; it stays in the store."""
        if self._reply is not None and self._reply.conversation_id == conversation_id:
            self.stop()
        if self._conversation is not None and self._conversation.id == conversation_id:
            self._show(None)

    def delete(self, conversation_id: int) -> None:
        """Delete a conversation with its messages, its cache and the reply it may be getting."""
        self._store.delete(conversation_id)
        self.put_aside(conversation_id)
        if self._reply is not None and self._reply.conversation_id == conversation_id:
            self._reply.discarded = True
        self._engine.send(Forget(_chat_id(conversation_id)))
        self.conversation_changed.emit()

    def set_options(self, options: ChatOptions) -> None:
        """Set the open conversation's options, from the next reply on."""
        if options == self._options:
            return
        if self._conversation is None:
            self._options = options
            self.conversation_changed.emit()
        else:
            self._store.set_options(self._conversation.id, options)
            self._options = options
            self._reread(self._conversation.id)
        if not any(m.figures for m in self._messages):
            self._set_panel(empty_panel(self._model.facts, options))

    # Messages

    def send(self, text: str) -> bool:
        """Say something and ask for a reply; False where that cannot be done now, and then nothing has changed."""
        return bool(text.strip()) and self._ask(text.strip(), len(self._messages))

    def edit(self, message_id: int, text: str) -> bool:
        """Say something else in place of a message; it and what followed it stay as a branch. False as in `send`."""
        at = next((i for i, m in enumerate(self._messages) if m.id == message_id), None)
        return at is not None and bool(text.strip()) and self._ask(text.strip(), at)

    def open_version(self, message_id: int) -> bool:
        """Show another version of a message and what followed it; False while a reply is written here."""
        if self._conversation is None or (self._reply is not None and self._is_open(self._reply)):
            return False
        self._store.open_branch(message_id)
        self._show(self._conversation)
        return True

    def regenerate(self) -> bool:
        """Have the last user message answered again; the answer before stays as a version. False as in `send`."""
        last = self.last_user_message
        return last is not None and self._ask(None, self._messages.index(last) + 1)

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
        self._end_reply(MessageState.CANCELLED)
        self._writer.close()

    # Inside

    def _is_open(self, reply: Reply) -> bool:
        return self._conversation is not None and self._conversation.id == reply.conversation_id

    def _show(self, conversation: Conversation | None) -> None:
        self._publish()
        messages = [] if conversation is None else self._store.messages(conversation.id)
        self._conversation = conversation
        self._options = self._settings.settings.chat if conversation is None else conversation.options
        self._messages = self._writer.latest(messages)
        self._versions = {} if conversation is None else versions_of(self._store.branches(conversation.id))
        figures = next((m.figures for m in reversed(self._messages) if m.figures is not None), None)
        panel = empty_panel(self._model.facts, self._options) if figures is None else reply_panel(figures)
        if self._reply is not None and self._is_open(self._reply):
            panel = asked_panel(panel, self._model.facts, self._options)
        self.conversation_changed.emit()
        self.messages_reset.emit()
        self._set_panel(panel)
        self._tell()

    def _reread(self, conversation_id: int) -> None:
        if self._conversation is not None and self._conversation.id == conversation_id:
            self._conversation = self._store.conversation(conversation_id)
        self.conversation_changed.emit()

    def _ask(self, text: str | None, kept: int) -> bool:
        """Ask for a reply to the first `kept` messages and `text`, if any; the others stay as a branch."""
        if self.state is not ChatState.IDLE:
            return False
        try:
            conversation, added = store_turn(
                self._store,
                self._conversation,
                self._messages,
                text,
                kept,
                model_path=self._model.path,
                options=self._options,
            )
        except NibbleError as error:
            self.failed.emit(error.message, error.hint, "")
            return False
        request_id = self._engine.new_request_id()
        asked = turns(m.message for m in (*self._messages[:kept], *added))
        self._conversation = conversation
        self._versions = versions_of(self._store.branches(conversation.id))
        self._reply = Reply(request_id, conversation.id, conversation.title, added[-1].id)
        self._engine.send(Generate(request_id, _chat_id(conversation.id), asked, self._options))
        self._publish_timer.start()
        if kept < len(self._messages):
            del self._messages[kept:]
            self.messages_reset.emit()
        for stored in added:
            self._messages.append(stored)
            self.message_added.emit(stored)
        self._set_panel(asked_panel(self._panel, self._model.facts, self._options))
        self._tell()
        self.conversation_changed.emit()
        return True

    def _receive(self, event: object) -> None:
        if self._reply is not None and getattr(event, "request_id", None) == self._reply.request_id:
            self._receive_reply(self._reply, event)
        elif isinstance(event, Failed) and not event.request_id:
            self.failed.emit(event.message, event.hint, event.detail)

    def _receive_reply(self, reply: Reply, event: object) -> None:
        if isinstance(event, Prefill):
            if reply.state is ChatState.PREFILL:
                reply.activity = reading_text(event)
                self._tell()
            if self._is_open(reply):
                self._set_panel(prefill_panel(self._panel, event))
        elif isinstance(event, Token):
            self._take_token(reply, event)
        elif isinstance(event, Progress):
            self._take_progress(reply, event)
        elif isinstance(event, Finished):
            self._finish(reply, event)
        elif isinstance(event, Failed) and event.shortage is not None:
            self._end_reply(MessageState.CANCELLED)
            self.ran_short.emit(reply.message_id, event.shortage)
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
        reply.note_speed(event.generated_tokens, event.decode_tokens_per_s)
        if reply.state is ChatState.DECODING:
            reply.activity = writing_text(event)
            self._tell()
        if self._is_open(reply):
            panel = progress_panel(event, self._model.facts, reply.speeds)
            self._set_panel(panel if event.generated_tokens else replace(panel, status=self._panel.status))

    def _finish(self, reply: Reply, event: Finished) -> None:
        reply.pieces = [event.text]
        if self._is_open(reply):
            self._set_panel(reply_panel(event.figures, reply.speeds))
        cancelled = event.figures.finish_reason in ("cancelled", "memory")
        self._end_reply(MessageState.CANCELLED if cancelled else MessageState.COMPLETE, event.figures)
        self.reply_finished.emit(reply.conversation_title, event.figures)
        if event.shortage is not None:
            self.ran_short.emit(reply.message_id, event.shortage)

    def _end_reply(self, state: MessageState, figures: ReplyFigures | None = None) -> None:
        reply = self._reply
        if reply is None:
            return
        self._reply = None
        self._publish_timer.stop()
        if not reply.discarded:
            stored = reply.message(state, figures)
            self._writer.note(stored)
            self._replace(stored)
        if self._is_open(reply) and self._panel.status:
            self._set_panel(replace(self._panel, status=""))
        self._tell()
        self._writer.flush()
        self.conversation_changed.emit()

    def _publish(self) -> None:
        reply = self._reply
        if reply is None or reply.discarded or reply.pieces_published == len(reply.pieces):
            return
        reply.pieces_published = len(reply.pieces)
        stored = reply.message(MessageState.STREAMING)
        self._writer.note(stored)
        self._replace(stored)

    def _replace(self, stored: StoredMessage) -> None:
        for i in reversed(range(len(self._messages))):
            if self._messages[i].id == stored.id:
                self._messages[i] = stored
                self.message_changed.emit(stored)
                return

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

    def _set_panel(self, panel: PanelState) -> None:
        self._panel = panel
        self.panel_changed.emit(panel)

    def _tell(self) -> None:
        state, reply = self.state, self._reply
        activity = self._model.progress
        if reply is not None and not activity:
            busy = f"Nibble is still writing in “{reply.conversation_title}”"
            activity = busy if state is ChatState.BUSY else reply.activity
        activity = activity or CLOSED.get(state, "")
        if activity != self._activity:
            self._activity = activity
            self.activity_changed.emit(activity)
        if state is not self._announced:
            self._announced = state
            self.state_changed.emit(state)


def _chat_id(conversation_id: int) -> str:
    return f"chat-{conversation_id}"
