"""Reasoning in the transcript, through the whole window."""

from PySide6.QtGui import QGuiApplication

from app.store.store import MessageState
from app.viewmodels.reply import ChatState


def test_reasoning_is_folded_and_left_out_of_what_is_copied(driver):
    driver.chat("Why? [think 12] [tokens 5]")
    view = driver.window.transcript.views[1]
    assert len(view.text.toPlainText().split()) == 5
    assert view.reasoning.isVisible()
    assert not view.reasoning.text.isVisible()
    reply = driver.session.messages[-1]
    assert reply.reasoning_s > 0
    assert view.reasoning.toggle.text().startswith("Reasoning  ")
    driver.click(f"copy_message_{reply.id}")
    assert QGuiApplication.clipboard().text() == view.text.toPlainText()

    driver.click(f"reasoning_toggle_{reply.id}")
    assert view.reasoning.text.isVisible()
    assert len(view.reasoning.text.toPlainText().split()) == 12
    assert view.reasoning.toggle.toolTip() == "Hide the reasoning"
    view.reasoning.text.selectAll()
    view.reasoning.text.copy()
    assert len(QGuiApplication.clipboard().text().split()) == 12
    driver.click(f"reasoning_toggle_{reply.id}")
    assert not view.reasoning.text.isVisible()


def test_its_time_outlives_the_program(driver):
    driver.chat("Why? [think 12] [tokens 5]")
    reply = driver.session.messages[-1]
    assert driver.program.store.messages(driver.session.conversation.id)[-1].reasoning_s == reply.reasoning_s


def test_unfinished_reasoning_grows_while_it_is_open_and_says_so(driver):
    driver.say("Why? [think 4000] [token-ms 5]")
    driver.until(lambda: driver.session.state is ChatState.DECODING)
    view = driver.window.transcript.views[1]
    driver.until(view.reasoning.isVisible)
    assert view.text.isHidden()
    assert view.reasoning.toggle.text().startswith("Reasoning…")
    view.reasoning.toggle.click()
    driver.until(lambda: len(view.reasoning.text.toPlainText().split()) > 5)
    driver.session.stop()
    driver.until_idle()
    assert driver.session.messages[-1].state is MessageState.CANCELLED
    assert view.reasoning.text.isVisible()


def test_a_reply_without_reasoning_has_no_button(driver):
    driver.chat("Hello")
    assert not driver.window.transcript.views[1].reasoning.isVisible()
