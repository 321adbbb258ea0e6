"""Editing any message, and the way between its versions, through the whole window."""

from PySide6.QtWidgets import QAbstractButton, QLabel

from app.viewmodels.reply import ChatState


def switch(driver, at: int, name: str) -> QAbstractButton:
    """Return an arrow of a message; a view that was there before is still to be deleted, so none is asked by name."""
    versions = driver.window.transcript.views[at].versions
    driver.until(versions.isVisible)
    (button,) = (b for b in versions.findChildren(QAbstractButton) if b.objectName().startswith(name))
    return button


def said(driver, at: int) -> str:
    return driver.window.transcript.views[at].versions.findChild(QLabel).text()


def test_an_earlier_message_is_edited_and_its_versions_are_gone_through(driver):
    driver.chat("One [tokens 3]")
    driver.chat("Two [tokens 3]")
    before = driver.texts()
    one, _, _, _ = (m.id for m in driver.session.messages)
    driver.click(f"edit_message_{one}")
    assert driver.window.composer.text == "One [tokens 3]"
    assert "kept beside it" in driver.window.composer.status_text
    driver.chat("Eins [tokens 3]")
    assert driver.texts()[0] == "Eins [tokens 3]"
    assert len(driver.texts()) == 2
    assert said(driver, 0) == "2 of 2"
    assert not switch(driver, 0, "next").isEnabled()
    switch(driver, 0, "previous").click()
    assert driver.texts() == before
    assert said(driver, 0) == "1 of 2"
    switch(driver, 0, "next").click()
    assert driver.texts()[0] == "Eins [tokens 3]"


def test_a_message_without_versions_has_no_arrows(driver):
    driver.chat("One [tokens 3]")
    for view in driver.window.transcript.views:
        assert view.versions.isHidden()


def test_replies_written_again_have_arrows_of_their_own(driver):
    driver.chat("One [tokens 3]")
    first = driver.session.messages[-1]
    driver.click(f"regenerate_{first.id}")
    driver.until_idle()
    assert said(driver, 1) == "2 of 2"
    switch(driver, 1, "previous").click()
    assert driver.session.messages[-1].message.text == first.message.text


def test_what_would_branch_is_greyed_with_a_reason_while_a_reply_is_written(driver):
    driver.chat("One [tokens 3]")
    one = driver.session.messages[0].id
    driver.click(f"edit_message_{one}")
    driver.say("Eins [tokens 4000] [token-ms 5]")
    arrow = switch(driver, 0, "previous")
    driver.until(lambda: driver.session.state is ChatState.DECODING)
    edit = driver.find(f"edit_message_{driver.session.messages[0].id}")
    for button in (arrow, edit):
        assert not button.isEnabled()
        assert "A reply is being written. Stop it first (Esc)." in button.toolTip()
        assert button.accessibleDescription() == "A reply is being written. Stop it first (Esc)."
    for action in (driver.window.actions_.regenerate, driver.window.actions_.edit_last):
        assert (action.isEnabled(), action.toolTip()) == (False, "A reply is being written. Stop it first (Esc).")
    arrow.click()
    assert driver.texts()[0].startswith("Eins")
    driver.session.stop()
    driver.until_idle()
    assert edit.isEnabled()
    assert edit.toolTip() == "Edit this message and go on from there"
    again = driver.find(f"regenerate_{driver.session.messages[-1].id}")
    assert again.isEnabled()
    assert "This is the last." in switch(driver, 0, "next").toolTip()
    switch(driver, 0, "previous").click()
    assert driver.texts()[0].startswith("One")


def test_what_would_ask_is_greyed_while_another_chat_is_written_in_but_versions_can_be_turned(driver):
    driver.chat("One [tokens 3]")
    driver.click(f"regenerate_{driver.session.messages[-1].id}")
    driver.until_idle()
    conversation = driver.session.conversation.id
    driver.session.new_chat()
    driver.say("Two [tokens 4000] [token-ms 5]")
    driver.session.open(conversation)
    again = driver.window.transcript.views[-1].findChild(
        QAbstractButton, f"regenerate_{driver.session.messages[-1].id}"
    )
    assert not again.isEnabled()
    assert "another chat" in again.toolTip()
    switch(driver, 1, "previous").click()
    assert said(driver, 1) == "1 of 2"
    driver.session.stop()
    driver.until_idle()
