"""The outlook of the model that is open, in the whole window."""

from dataclasses import replace

from PySide6.QtWidgets import QLabel

from app.viewmodels.outlook_table import outlook_table


def shown(driver, key):
    return driver.find(f"panel_outlook_{key}", QLabel).text()


def test_the_panel_looks_ahead_with_the_open_model_and_this_chats_group_size(driver):
    facts = driver.program.models.model.facts
    assert facts.outlook is not None
    assert shown(driver, "at_8192_int4") == outlook_table(facts, 32).rows[0].int4 == "4.72 MB"
    assert shown(driver, "at_8192_fp16") == "16.8 MB"
    assert "4,096" in shown(driver, "note")
    driver.session.set_options(replace(driver.session.options, group_size=64))
    assert shown(driver, "at_8192_int4") == outlook_table(facts, 64).rows[0].int4 != "4.72 MB"
