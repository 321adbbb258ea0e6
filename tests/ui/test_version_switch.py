"""Editing any message, and the way between its versions, through the whole window."""

from PySide6.QtWidgets import QAbstractButton, QLabel


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


def test_arrows_do_nothing_while_a_reply_is_written(driver):
    driver.chat("One [tokens 3]")
    one = driver.session.messages[0].id
    driver.click(f"edit_message_{one}")
    driver.say("Eins [tokens 4000] [token-ms 5]")
    switch(driver, 0, "previous").click()
    assert driver.texts()[0].startswith("Eins")
    driver.session.stop()
    driver.until_idle()
