"""What a screen reader says aloud of its own accord: what has come about, never a reply's tokens."""

from PySide6.QtCore import QObject
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent

from app.viewmodels.reply import ChatState

_STATES = {
    ChatState.IDLE: "Ready",
    ChatState.PREFILL: "Reading your message",
    ChatState.DECODING: "Writing",
    ChatState.STOPPING: "Stopping",
    ChatState.LOADING: "Opening a model",
    ChatState.FAILED: "The engine stopped",
}


def announce(source: QObject, text: str) -> None:
    """Have `text` said; `source` is the window or control that it comes from."""
    QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(source, text))


def announce_state(source: QObject, state: ChatState) -> None:
    """Have said what the open chat does now, where there is a word for it."""
    if (words := _STATES.get(state)) is not None:
        announce(source, words)
