"""Which commands can be used now, and in words why others cannot."""

from PySide6.QtGui import QAction

from app.ui.menus import Actions
from app.viewmodels.models import Models
from app.viewmodels.reply import ChatState

STOPPABLE = (ChatState.LOADING, ChatState.PREFILL, ChatState.DECODING, ChatState.BUSY)
RESTARTABLE = (ChatState.FAILED, ChatState.STOPPING, ChatState.LOADING)
"""The engine is gone, or may not answer."""
_WRITING = "A reply is being written. Stop it first (Esc)."
_REASONS = {
    ChatState.NO_MODEL: "No model is open.",
    ChatState.LOADING: "A model is being opened.",
    ChatState.PREFILL: _WRITING,
    ChatState.DECODING: _WRITING,
    ChatState.STOPPING: "A reply is being stopped.",
    ChatState.BUSY: "A reply is being written in another chat.",
    ChatState.FAILED: "The engine is not running. Restart it first.",
}
_HERE = (ChatState.PREFILL, ChatState.DECODING, ChatState.STOPPING)


def reason_not_to_ask(state: ChatState) -> str:
    """Say why no reply can be asked for in `state`; "" where one can."""
    return _REASONS.get(state, "")


def reason_not_to_turn(state: ChatState) -> str:
    """Say why no other version of a message can be opened in `state`; "" where one can."""
    return _REASONS[state] if state in _HERE else ""


def chat_actions(actions: Actions) -> tuple[QAction, ...]:
    """Return the commands that act on the open chat, where the person sees it: not while another window is in front."""
    return (
        actions.find,
        actions.find_next,
        actions.find_previous,
        actions.search,
        actions.send,
        actions.attach,
        actions.stop,
        actions.regenerate,
        actions.edit_last,
        actions.options,
        actions.copy_chat,
        actions.pin,
        actions.rename,
        actions.delete,
        actions.undo_delete,
    )


def enable_actions(actions: Actions, models: Models, *, has_message: bool, is_behind: bool) -> None:
    """Enable what can be used.

    `has_message` tells whether there is anything to send, `is_behind` whether another window is in front of the chat.
    """
    session = models.session
    is_idle = session.state is ChatState.IDLE
    stored = session.conversation is not None
    answered = session.last_user_message is not None
    for action in (actions.find, actions.find_next, actions.find_previous):
        action.setEnabled(bool(session.messages))
    actions.send.setEnabled(is_idle and has_message)
    actions.stop.setEnabled(session.state in STOPPABLE)
    for action in (actions.regenerate, actions.edit_last):
        action.setEnabled(is_idle and answered)
        action.setToolTip(reason_not_to_ask(session.state) or action.text())
    actions.restart.setEnabled(session.state in RESTARTABLE or models.engine.is_silent)
    actions.compare.setEnabled(models.model.facts is not None)
    actions.quality.setEnabled(models.model.facts is not None)
    actions.export.setEnabled(bool(models.stats.rows))
    actions.copy_chat.setEnabled(bool(session.messages))
    for action, steps in ((actions.bigger, 1), (actions.smaller, -1), (actions.usual_size, 0)):
        action.setEnabled(models.settings.can_zoom(steps))
    for action in (actions.rename, actions.delete, actions.pin):
        action.setEnabled(stored)
    is_pinned = session.conversation is not None and session.conversation.is_pinned
    actions.pin.setText("Unpin Chat" if is_pinned else "Pin Chat")
    actions.crash_report.setEnabled(models.support.last_report is not None)
    actions.undo_delete.setEnabled(models.deletions.can_undo)
    for action in (actions.search, actions.attach, actions.options):
        action.setEnabled(True)
    if is_behind:
        for action in chat_actions(actions):
            action.setEnabled(False)
