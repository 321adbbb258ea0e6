import pytest
from PySide6.QtCore import QEvent, Qt

from app.ui.composer import LINES_SHOWN, Composer
from tests.ui.event_count import EventCount

MODIFIER = Qt.KeyboardModifier


@pytest.fixture
def composer(qtbot):
    made = Composer()
    qtbot.addWidget(made)
    made.resize(500, 200)
    made.show()
    made.set_abilities(can_send=True, can_stop=False)
    return made


@pytest.fixture
def sent(composer):
    heard = []
    composer.sent.connect(lambda text, edited_id: heard.append((text, edited_id)))
    return heard


def test_return_sends_and_shift_return_starts_a_new_line(composer, sent, qtbot):
    qtbot.keyClicks(composer.edit, "one")
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClicks(composer.edit, "two")
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return)
    assert sent == [("one\ntwo", None)]
    assert composer.text == ""


@pytest.mark.parametrize("modifier", [MODIFIER.ShiftModifier, MODIFIER.AltModifier, MODIFIER.MetaModifier])
@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Enter])
def test_return_beside_shift_option_or_a_macs_control_breaks_the_line(composer, sent, qtbot, key, modifier):
    qtbot.keyClicks(composer.edit, "one")
    qtbot.keyClick(composer.edit, key, modifier)
    assert sent == []
    assert composer.text == "one\n"


@pytest.mark.parametrize("modifier", [MODIFIER.NoModifier, MODIFIER.ControlModifier, MODIFIER.KeypadModifier])
def test_return_sends_also_with_cmd_and_on_the_number_pad(composer, sent, qtbot, modifier):
    qtbot.keyClicks(composer.edit, "one")
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return, modifier)
    assert sent == [("one", None)]


def test_what_cannot_be_sent_stays(composer, sent, qtbot):
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return)
    qtbot.keyClicks(composer.edit, "hello")
    composer.set_abilities(can_send=False, can_stop=False)
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return)
    assert sent == []
    assert composer.text == "hello"


def test_one_button_sends_or_stops(composer, sent, qtbot):
    button = composer.findChild(object, "send")
    assert not button.isEnabled()
    composer.write("hello")
    assert button.isEnabled()
    assert button.accessibleName() == "Send (Return)"
    composer.set_abilities(can_send=False, can_stop=True)
    assert button.accessibleName() == "Stop (Esc)"
    with qtbot.waitSignal(composer.stop_asked):
        button.click()
    assert sent == []


def test_editing_sends_another_version_or_gives_the_draft_back(composer, sent):
    composer.write("a draft")
    composer.edit_message(7, "what I said")
    assert "Editing" in composer.status_text
    composer.escape()
    assert composer.text == "a draft"
    composer.edit_message(7, "what I said")
    composer.send()
    assert sent == [("what I said", 7)]
    composer.write("next")
    composer.send()
    assert sent[-1] == ("next", None)


def test_the_field_grows_with_its_text_up_to_a_bound(composer):
    one = composer.edit.height()
    composer.write("\n".join("abc"))
    three = composer.edit.height()
    composer.write("\n" * 50)
    most = composer.edit.height()
    line = composer.edit.fontMetrics().lineSpacing()
    assert three == one + 2 * line
    assert most == one + (LINES_SHOWN - 1) * line
    composer.edit.clear()
    assert composer.edit.height() == one


def test_what_goes_on_stands_below_the_field(composer):
    assert "Return sends" in composer.status_text
    composer.set_activity("Reading 512 of 2,048 tokens")
    assert composer.status_text == "Reading 512 of 2,048 tokens"
    composer.set_activity("")
    assert "Return sends" in composer.status_text


def test_words_that_fit_the_line_leave_the_windows_layout_alone(composer, qtbot):
    composer.set_activity("Writing, 9.1 tokens/s")
    qtbot.wait(50)
    requests = EventCount(composer, QEvent.Type.LayoutRequest)
    for speed in range(5):
        composer.set_activity(f"Writing, {speed}.1 tokens/s")
        qtbot.wait(5)
    assert requests.count == 0
    before = composer.findChild(object, "activity").height()
    composer.set_activity("A sentence that does not fit. " * 9)
    qtbot.waitUntil(lambda: composer.findChild(object, "activity").height() >= 2 * before)
    qtbot.waitUntil(lambda: requests.count > 0)
