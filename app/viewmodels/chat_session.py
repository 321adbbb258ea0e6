"""The open conversation: what was said, what is being written, and what can be done next."""

from collections.abc import Mapping
from dataclasses import replace

from PySide6.QtCore import QObject, Signal

from app.chat.conversation_text import as_markdown
from app.chat.figures import ReplyFigures
from app.chat.message import Role
from app.chat.options import ChatOptions
from app.engine.protocol import Failed, Forget, Generate, Prefill, Progress
from app.errors import NibbleError
from app.store.store import Conversation, MessageState, Store, StoredMessage
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.message_writer import MessageWriter
from app.viewmodels.open_model import OpenModel
from app.viewmodels.panel_state import PanelState, asked_panel, empty_panel, prefill_panel, progress_panel, reply_panel
from app.viewmodels.reply import CLOSED, ChatState, Reply, turns
from app.viewmodels.reply_run import ReplyRun
from app.viewmodels.saved_caches import chat_id
from app.viewmodels.settings_model import SettingsModel
from app.viewmodels.turn import store_turn
from app.viewmodels.versions import Versions, versions_of


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
        self._run = ReplyRun(engine, self)
        self._activity = ""
        self._announced = ChatState.NO_MODEL
        self._panel = empty_panel(None, self._options)
        self._run.message_changed.connect(self._take)
        self._run.changed.connect(self._tell)
        self._run.prefilled.connect(self._show_prefill)
        self._run.progressed.connect(self._show_progress)
        self._run.ended.connect(self._follow_end)
        self._run.ran_short.connect(lambda reply, shortage: self.ran_short.emit(reply.message_id, shortage))
        self._run.failed.connect(self.failed)
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
        if (reply := self._run.reply) is not None:
            return reply.state if self._is_open(reply) else ChatState.BUSY
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
    def other_model(self) -> str:
        """The folder of the model that wrote in the open conversation last; "" where it is open, or is the starter."""
        path = "" if self._conversation is None else self._conversation.model_path
        return "" if path == self._model.path else path

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
        if (reply := self._reply_in(conversation_id)) is not None:
            reply.conversation_title = title
        self._reread(conversation_id)

    def set_pinned(self, conversation_id: int, is_pinned: bool) -> None:
        """Keep a conversation at the head of the list, or no longer."""
        self._store.set_pinned(conversation_id, is_pinned)
        self._reread(conversation_id)

    def put_aside(self, conversation_id: int) -> None:
        """Stop the reply that a conversation may be getting and close it; it stays in the store."""
        if self._reply_in(conversation_id) is not None:
            self.stop()
        if self._conversation is not None and self._conversation.id == conversation_id:
            self._show(None)

    def delete(self, conversation_id: int) -> None:
        """Delete a conversation with its messages, its cache and the reply it may be getting."""
        self._store.delete(conversation_id)
        self.put_aside(conversation_id)
        if (reply := self._reply_in(conversation_id)) is not None:
            reply.discarded = True
        self._engine.send(Forget(chat_id(conversation_id)))
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
        if self._conversation is None or self._writes_here:
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
        self._run.stop()

    def close(self) -> None:
        """Store what was written so far; the last call before the store is closed."""
        self._run.end(MessageState.CANCELLED)
        self._writer.close()

    # Inside

    @property
    def _writes_here(self) -> bool:
        return self._run.reply is not None and self._is_open(self._run.reply)

    def _reply_in(self, conversation_id: int) -> Reply | None:
        reply = self._run.reply
        return reply if reply is not None and reply.conversation_id == conversation_id else None

    def _is_open(self, reply: Reply) -> bool:
        return self._conversation is not None and self._conversation.id == reply.conversation_id

    def _show(self, conversation: Conversation | None) -> None:
        self._run.publish()
        messages = [] if conversation is None else self._store.messages(conversation.id)
        self._conversation = conversation
        self._options = self._settings.settings.chat if conversation is None else conversation.options
        self._messages = self._writer.latest(messages)
        self._versions = {} if conversation is None else versions_of(self._store.branches(conversation.id))
        figures = next((m.figures for m in reversed(self._messages) if m.figures is not None), None)
        panel = empty_panel(self._model.facts, self._options) if figures is None else reply_panel(figures)
        if self._writes_here:
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
        reply = Reply(request_id, conversation.id, conversation.title, added[-1].id)
        self._run.begin(reply, Generate(request_id, chat_id(conversation.id), asked, self._options))
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
        if not self._run.receive(event) and isinstance(event, Failed) and not event.request_id:
            self.failed.emit(event.message, event.hint, event.detail)

    def _show_prefill(self, event: Prefill) -> None:
        if self._writes_here:
            self._set_panel(prefill_panel(self._panel, event))

    def _show_progress(self, event: Progress) -> None:
        if (reply := self._run.reply) is not None and self._is_open(reply):
            panel = progress_panel(event, self._model.facts, reply.speeds)
            self._set_panel(panel if event.generated_tokens else replace(panel, status=self._panel.status))

    def _follow_end(self, reply: Reply, figures: ReplyFigures | None) -> None:
        if self._is_open(reply):
            self._set_panel(replace(self._panel, status="") if figures is None else reply_panel(figures, reply.speeds))
        self._tell()
        self._writer.flush()
        self.conversation_changed.emit()
        if figures is not None:
            self.reply_finished.emit(reply.conversation_title, figures)

    def _take(self, stored: StoredMessage) -> None:
        self._writer.note(stored)
        self._replace(stored)

    def _replace(self, stored: StoredMessage) -> None:
        for i in reversed(range(len(self._messages))):
            if self._messages[i].id == stored.id:
                self._messages[i] = stored
                self.message_changed.emit(stored)
                return

    def _lose_engine(self, reason: str, stderr_tail: str) -> None:
        self._run.end(MessageState.FAILED)
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
        state, reply = self.state, self._run.reply
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
