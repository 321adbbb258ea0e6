"""A chat that outgrows the memory budget, in the whole window over the fake engine."""

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QCheckBox, QDialog, QDoubleSpinBox, QLabel, QPushButton

from app.chat.options import CacheMode
from app.viewmodels.reply import ChatState
from tests.ui import accessibility
from tests.ui.window_driver import Driver

FULL = "Tell me a story [tokens 600] [token-ms 0]"
LONG = "once upon a time " * 70


@pytest.fixture
def small(driver: Driver) -> Driver:
    """A model and a budget that leave 1 MB: 256 tokens in fp16, 1,536 in int4."""
    return outgrowing(driver)


def outgrowing(driver: Driver) -> Driver:
    models = driver.program.models
    folder = Path(models.model.facts.path).with_name("Model [weights 499]")
    folder.mkdir()
    models.settings.replace(replace(models.settings.settings, memory_budget_gb=0.5))
    driver.session.load_model(str(folder))
    driver.until_idle()
    driver.session.set_options(replace(driver.session.options, cache_mode=CacheMode.FP16))
    return driver


def note(driver: Driver) -> str:
    shown = driver.find("memory_note")
    return shown.accessibleName() if shown.isVisible() else ""


def test_a_reply_that_fills_the_budget_is_kept_and_goes_on_in_int4(small):
    small.chat(FULL)
    assert "The reply was stopped" in note(small)
    assert "A chat of 257 tokens takes 0.50 GB: 0.50 GB for weights, 1.0 MB for the KV cache in fp16" in note(small)
    assert "That is 48.6 KB more than the memory budget of 0.50 GB (set in Settings)." in note(small)
    assert "In int4 it takes 0.50 GB and can grow to 1,536 tokens." in note(small)
    stopped = small.texts()[-1]
    assert len(stopped.split()) > 200
    view = small.window.transcript.views[-1]
    assert view.status_text.startswith("Stopped")
    assert "memory budget reached" in view.status_text
    assert not small.window.notice.isVisible()
    small.click("memory_int4")
    small.until(lambda: small.session.state is not ChatState.PREFILL)
    assert note(small) == ""
    small.until_idle()
    assert small.session.options.cache_mode is CacheMode.INT4
    assert note(small) == ""
    assert len(small.texts()[-1].split()) > 500
    assert len(small.session.versions) == 1, "the stopped reply is a version"


def test_a_message_that_does_not_fit_is_answered_once_the_budget_is_raised(small):
    small.chat(LONG)
    assert note(small).startswith("There is no reply: the chat does not fit in the memory budget.")
    assert small.texts()[-1] == ""
    assert small.window.transcript.views[-1].status_text == "Stopped"
    small.click("memory_budget")
    dialog = small.find("settings_dialog", QDialog)
    accessibility.activate(dialog)
    fixed, number = (small.find(f"option_memory_budget_gb_{part}") for part in ("fixed", "number"))
    assert isinstance(fixed, QCheckBox)
    assert isinstance(number, QDoubleSpinBox)
    assert dialog.focusWidget() is fixed, dialog.focusWidget()
    assert number.value() == 0.5
    number.setValue(2.0)
    dialog.close()
    assert note(small).startswith("There is room for this chat now.")
    assert not small.find("memory_budget").isVisible()
    small.click("memory_again")
    small.until_idle()
    assert note(small) == ""
    assert small.texts()[-1]


def test_int4_is_offered_only_where_it_would_fit(small):
    small.session.set_options(replace(small.session.options, cache_mode=CacheMode.INT4))
    small.chat("once upon a time " * 400)
    assert "for the KV cache in int4" in note(small)
    assert not small.find("memory_int4").isVisible()
    assert small.find("memory_shorten").isVisible()


def test_shortening_goes_on_in_a_new_chat_or_with_an_edited_message(small):
    small.chat(LONG)
    small.click("memory_shorten")
    small.find("shorten_dialog_edit", QPushButton).click()
    assert small.window.composer.is_editing
    assert small.window.composer.text == LONG.strip()
    small.say("Briefly")
    small.until_idle()
    assert note(small) == ""
    assert small.texts()[0] == "Briefly"
    small.chat(LONG)
    assert note(small)
    small.click("memory_shorten")
    small.find("shorten_dialog_new", QPushButton).click()
    assert small.session.conversation is None
    assert small.window.composer.text == LONG.strip()
    assert not small.window.composer.is_editing
    assert note(small) == ""


def test_the_note_comes_back_with_its_chat_and_not_with_another_model(small):
    small.chat(FULL)
    said, conversation_id = note(small), small.session.conversation.id
    small.session.new_chat()
    assert note(small) == ""
    small.session.open(conversation_id)
    assert note(small) == said
    small.session.load_model("")
    small.until_idle()
    assert note(small) == ""


def test_the_note_is_there_after_the_next_start(small, program_of, loop):
    small.chat(FULL)
    said, conversation_id = note(small), small.session.conversation.id
    small.window.close()
    loop.run_until_complete(small.program.close())
    again = Driver(loop, program_of())
    again.program.start()
    again.until_idle()
    again.session.open(conversation_id)
    assert note(again) == said
    again.click("memory_int4")
    again.until_idle()
    assert note(again) == ""
    assert len(again.texts()[-1].split()) > 500


def test_the_budget_is_that_of_the_panel_too(small):
    longest = small.find("panel_outlook_longest_int4", QLabel), small.find("panel_outlook_longest_fp16", QLabel)
    assert [label.text() for label in longest] == ["1,536", "256"]
    assert "500 MB, set in Settings, less 499 MB of weights" in longest[0].toolTip()
    settings = small.program.models.settings
    settings.replace(replace(settings.settings, memory_budget_gb=None))
    longest = small.find("panel_outlook_longest_int4", QLabel), small.find("panel_outlook_longest_fp16", QLabel)
    assert [label.text() for label in longest] == ["4,096", "4,096"]


def test_the_buttons_work_by_keys_and_stand_below_each_other_where_it_is_narrow(small):
    small.chat(FULL)
    shorten, budget = small.find("memory_shorten"), small.find("memory_budget")
    assert shorten.y() == budget.y()
    small.program.models.settings.zoom(10)
    small.window.resize(small.window.minimumSize())
    small.until(lambda: shorten.y() < small.find("memory_int4").y() < budget.y())
    accessibility.activate(small.window)
    budget.setFocus()
    QTest.keyClick(budget, Qt.Key.Key_Space)
    small.find("settings_dialog", QDialog).close()
