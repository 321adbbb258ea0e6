"""What a message and the reply to it change in the store."""

from collections.abc import Sequence

from app.chat.attachment import attached_in
from app.chat.message import Message, Role, title_from
from app.chat.options import ChatOptions
from app.store.store import Conversation, MessageState, Store, StoredMessage


def store_turn(
    store: Store,
    conversation: Conversation | None,
    messages: Sequence[StoredMessage],
    text: str | None,
    kept: int,
    *,
    model_path: str,
    options: ChatOptions,
) -> tuple[Conversation, list[StoredMessage]]:
    """Add `text`, if any, and an empty reply behind the first `kept` of a conversation's `messages`, or to a new one.

    What followed those stays as a branch. Returns the conversation and its new messages; all of it is stored, or
    nothing. Raises NibbleError.
    """
    title = _title_of(text or "")
    with store.together():
        if conversation is None:
            conversation = store.create_conversation(title, model_path, options)
        elif conversation.model_path != model_path:
            store.set_model(conversation.id, model_path)
        if kept < len(messages):
            replaced = messages[kept]
            if replaced.message.text:
                store.branch_before(replaced.id)
            else:
                store.delete_from(replaced.id)  # a reply that never began is no version
            if text and kept == 0 and conversation.title == _title_of(replaced.message.text):
                store.rename(conversation.id, title)
        added = [store.add_message(conversation.id, Message(Role.USER, text))] if text else []
        added.append(store.add_message(conversation.id, Message(Role.ASSISTANT, ""), MessageState.STREAMING))
        return store.conversation(conversation.id), added


def _title_of(text: str) -> str:
    attached = attached_in(text)
    return title_from(attached.spoken or ", ".join(file.name for file in attached.files))
