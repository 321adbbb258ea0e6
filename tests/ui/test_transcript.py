import pytest
from PySide6.QtCore import QEvent
from PySide6.QtGui import QGuiApplication

from app.chat.message import Message, Role
from app.store.store import MessageState, StoredMessage
from app.ui.controls import SignButton
from app.ui.markdown import CODE_PADDING
from app.ui.transcript import MESSAGES_SHOWN, Transcript
from tests.chat_parts import FIGURES
from tests.ui.event_count import EventCount


def user(number: int, text: str = "Tell me a story") -> StoredMessage:
    return StoredMessage(number, Message(Role.USER, text), MessageState.COMPLETE, None)


def reply(number: int, text: str, state: MessageState = MessageState.STREAMING, figures=None) -> StoredMessage:
    return StoredMessage(number, Message(Role.ASSISTANT, text), state, figures)


LONG = "\n\n".join(["A paragraph of a story."] * 40)


@pytest.fixture
def transcript(qtbot):
    made = Transcript()
    qtbot.addWidget(made)
    made.resize(500, 300)
    made.show()
    return made


def at_end(transcript: Transcript) -> bool:
    bar = transcript.verticalScrollBar()
    return bar.maximum() > 0 and bar.value() == bar.maximum()


def test_growing_text_is_followed_while_the_reader_is_at_the_end(transcript, qtbot):
    transcript.show_messages([user(1), reply(2, LONG)])
    qtbot.waitUntil(lambda: at_end(transcript))
    transcript.change_message(reply(2, LONG * 2))
    qtbot.wait(50)
    before = transcript.verticalScrollBar().maximum()
    transcript.change_message(reply(2, LONG * 3, MessageState.COMPLETE))
    qtbot.waitUntil(lambda: transcript.verticalScrollBar().maximum() > before)
    assert at_end(transcript)


def test_a_reader_elsewhere_is_left_in_peace_and_finds_the_way_back(transcript, qtbot):
    transcript.show_messages([user(1), reply(2, LONG)])
    qtbot.waitUntil(lambda: at_end(transcript))
    transcript.verticalScrollBar().setValue(40)
    button = transcript.findChild(object, "jump_to_end")
    assert button.isVisible()
    before = transcript.verticalScrollBar().maximum()
    transcript.change_message(reply(2, LONG * 2, MessageState.COMPLETE))
    qtbot.waitUntil(lambda: transcript.verticalScrollBar().maximum() > before)
    assert transcript.verticalScrollBar().value() == 40
    button.click()
    assert at_end(transcript)
    assert not button.isVisible()


def test_the_persons_own_message_brings_the_end_into_view(transcript, qtbot):
    transcript.show_messages([user(1), reply(2, LONG, MessageState.COMPLETE)])
    qtbot.waitUntil(lambda: at_end(transcript))
    transcript.verticalScrollBar().setValue(0)
    transcript.add_message(user(3, "Go on"))
    qtbot.waitUntil(lambda: at_end(transcript))


def test_an_old_conversation_is_built_from_its_end(transcript):
    transcript.show_messages([user(i, f"message {i}") for i in range(MESSAGES_SHOWN + 10)])
    assert len(transcript.views) == MESSAGES_SHOWN
    assert transcript.views[0].stored.id == 10
    transcript.findChild(object, "show_earlier").click()
    assert [view.stored.id for view in transcript.views] == list(range(MESSAGES_SHOWN + 10))
    assert not transcript.findChild(object, "show_earlier").isVisible()


def test_a_finished_reply_says_what_its_cache_took(transcript):
    transcript.show_messages([user(1), reply(2, "Once.", MessageState.COMPLETE, FIGURES)])
    status = transcript.views[1].status_text
    assert "int4 cache 3.60 MB, 3.56x smaller than fp16" in status
    assert "40.0 tokens/s" in status


@pytest.mark.parametrize(
    ("state", "says"), [(MessageState.CANCELLED, "Stopped"), (MessageState.FAILED, "engine failed")]
)
def test_an_unfinished_reply_says_so(transcript, state, says):
    transcript.show_messages([user(1), reply(2, "Once", state)])
    assert says in transcript.views[1].status_text
    assert transcript.views[1].text.toPlainText() == "Once"


def test_all_own_messages_can_be_edited_and_the_last_reply_written_again(transcript):
    messages = [user(1), reply(2, "a", MessageState.COMPLETE), user(3), reply(4, "b", MessageState.COMPLETE)]
    transcript.show_messages(messages)
    shown = [
        name
        for name in ("edit_message_1", "regenerate_2", "edit_message_3", "regenerate_4")
        if not transcript.findChild(object, name).isHidden()
    ]
    assert shown == ["edit_message_1", "edit_message_3", "regenerate_4"]


def test_what_the_person_wrote_is_shown_as_it_is(transcript):
    transcript.show_messages([user(1, "# not a heading <b>x</b>")])
    assert transcript.views[0].text.toPlainText() == "# not a heading <b>x</b>"


def test_a_growing_text_is_painted_once_for_every_change(transcript, qtbot):
    transcript.show_messages([user(1), reply(2, LONG)])
    qtbot.waitUntil(lambda: at_end(transcript))
    qtbot.wait(50)
    painted = EventCount(transcript.views[1].text.viewport(), QEvent.Type.Paint)
    for count in range(2, 6):
        transcript.change_message(reply(2, LONG * count))
        assert at_end(transcript), "it has its room before the loop goes on"
        qtbot.wait(50)
    assert painted.count == 4


def test_code_stays_marked_and_copyable_while_a_text_grows(transcript, qtbot):
    text = "First.\n\n```python\nx = 1\n```\n\nThen.\n\n```python\ny = 2\n```\n\nAt last.\n"
    transcript.show_messages([user(1), reply(2, "")])
    for length in range(7, len(text), 7):
        transcript.change_message(reply(2, text[:length]))
    transcript.change_message(reply(2, text, MessageState.COMPLETE))
    qtbot.wait(20)
    shown = transcript.views[1].text
    buttons = [button for button in shown.findChildren(SignButton) if button.isVisible()]
    tops = [shown.document().documentLayout().blockBoundingRect(block).top() for block in code_starts(shown)]
    assert [button.y() for button in buttons] == [round(top - CODE_PADDING) + 3 for top in tops]
    assert len(buttons) == 2
    buttons[1].click()
    assert QGuiApplication.clipboard().text() == "y = 2"


def code_starts(shown):
    return [shown.document().findBlockByNumber(code.first) for code in shown.code_blocks]
