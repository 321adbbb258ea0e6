"""A reply on its way: asked of the engine, put together from its events, published ten times a second."""

from PySide6.QtCore import QObject, QTimer, Signal

from app.chat.figures import ReplyFigures
from app.engine.protocol import Cancel, Failed, Finished, Generate, Prefill, Progress, Token
from app.store.store import MessageState
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.reply import ChatState, Reply, reading_text, writing_text

PUBLISH_INTERVAL_MS = 100
"""Store and transcript hear of new text this often: drawing markdown for every token would be quadratic."""
STOP_PATIENCE_MS = 3000
"""After so long it is said what can be done about an engine that does not stop."""
DEAF = "Stopping, but the engine does not answer. Chat, Restart Engine ends it; what was written is kept."


class ReplyRun(QObject):
    """Knows of one reply at a time, and nothing of which conversation is open."""

    message_changed = Signal(object)
    """StoredMessage: the reply so far, or as it ended."""
    changed = Signal()
    """The reply's `state` or `activity` is another."""
    prefilled = Signal(object)
    """Prefill."""
    progressed = Signal(object)
    """Progress; the reply has noted its speed."""
    ended = Signal(object, object)
    """The reply, which is under way no longer, and its ReplyFigures, or None where it was cut off."""
    ran_short = Signal(object, object)
    """The reply, and the Shortage for which it was refused or stopped; told after `ended`."""
    failed = Signal(str, str, str)
    """Message, hint, detail; told after `ended`."""

    def __init__(self, engine: EngineClient, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._engine = engine
        self._reply: Reply | None = None
        self._timer = QTimer(self, interval=PUBLISH_INTERVAL_MS)
        self._timer.timeout.connect(self.publish)
        self._patience = QTimer(self, interval=STOP_PATIENCE_MS, singleShot=True)
        self._patience.timeout.connect(self._lose_patience)

    @property
    def reply(self) -> Reply | None:
        """The reply under way."""
        return self._reply

    def begin(self, reply: Reply, request: Generate) -> None:
        """Ask for a reply; none may be under way."""
        self._reply = reply
        self._engine.send(request)
        self._timer.start()

    def stop(self) -> None:
        """Have the engine stop; what was written is kept."""
        reply = self._reply
        if reply is not None and reply.state is not ChatState.STOPPING:
            reply.state, reply.activity = ChatState.STOPPING, "Stopping"
            self._engine.send(Cancel(reply.request_id))
            self._patience.start()
            self.changed.emit()

    def receive(self, event: object) -> bool:
        """Take an event of the engine; False where it is none of this reply."""
        reply = self._reply
        if reply is None or getattr(event, "request_id", None) != reply.request_id:
            return False
        if isinstance(event, Token):
            self._take_token(reply, event)
        elif isinstance(event, Prefill):
            if reply.state is ChatState.PREFILL:
                reply.activity = reading_text(event)
                self.changed.emit()
            self.prefilled.emit(event)
        elif isinstance(event, Progress):
            self._take_progress(reply, event)
        elif isinstance(event, Finished):
            self._finish(reply, event)
        elif isinstance(event, Failed) and event.shortage is not None:
            self.end(MessageState.CANCELLED)
            self.ran_short.emit(reply, event.shortage)
        elif isinstance(event, Failed):
            self.end(MessageState.FAILED)
            self.failed.emit(event.message, event.hint, event.detail)
        return True

    def publish(self) -> None:
        """Tell of what was written since the last time."""
        reply = self._reply
        if reply is not None and not reply.discarded and reply.pieces_published != len(reply.pieces):
            reply.pieces_published = len(reply.pieces)
            self.message_changed.emit(reply.message(MessageState.STREAMING))

    def end(self, state: MessageState, figures: ReplyFigures | None = None) -> None:
        """Take the reply, if there is one, as ended in `state`."""
        reply = self._reply
        if reply is None:
            return
        self._reply = None
        self._timer.stop()
        self._patience.stop()
        if not reply.discarded:
            self.message_changed.emit(reply.message(state, figures))
        self.ended.emit(reply, figures)

    def _lose_patience(self) -> None:
        if self._reply is not None:
            self._reply.activity = DEAF
            self.changed.emit()

    def _take_token(self, reply: Reply, event: Token) -> None:
        if event.text:
            reply.pieces.append(event.text)
        if reply.state is ChatState.PREFILL:
            reply.state, reply.activity = ChatState.DECODING, "Writing"
            self.changed.emit()
            self.publish()

    def _take_progress(self, reply: Reply, event: Progress) -> None:
        reply.note_speed(event.generated_tokens, event.decode_tokens_per_s)
        if reply.state is ChatState.DECODING:
            reply.activity = writing_text(event)
            self.changed.emit()
        self.progressed.emit(event)

    def _finish(self, reply: Reply, event: Finished) -> None:
        reply.pieces = [event.text]
        cancelled = event.figures.finish_reason in ("cancelled", "memory")
        self.end(MessageState.CANCELLED if cancelled else MessageState.COMPLETE, event.figures)
        if event.shortage is not None:
            self.ran_short.emit(reply, event.shortage)
