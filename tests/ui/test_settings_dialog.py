import sys
from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QDialogButtonBox, QPlainTextEdit, QPushButton, QSpinBox

from app.chat.options import CacheMode, ChatOptions, Sampling
from app.settings.schema import Appearance, Settings
from app.ui.settings_dialog import SettingsDialog

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints")  # the offscreen plugin's own remark

KEPT = Settings(model_path="/models/a", recent_model_paths=("/models/a",), show_panel=False)
CHANGED = replace(
    KEPT,
    chat=ChatOptions(CacheMode.FP16, 64, "Be brief.", Sampling(max_tokens=99)),
    appearance=Appearance.DARK,
    text_size_percent=130,
)


@pytest.fixture
def dialog(qtbot):
    dialog = SettingsDialog(CHANGED)
    qtbot.addWidget(dialog)
    return dialog


def heard(dialog: SettingsDialog) -> list[Settings]:
    values: list[Settings] = []
    dialog.applied.connect(values.append)
    return values


def test_a_change_applies_at_once_and_leaves_the_rest_alone(dialog):
    values = heard(dialog)
    dialog.findChild(QSpinBox, "option_max_tokens").setValue(200)
    assert values == [replace(CHANGED, chat=replace(CHANGED.chat, sampling=Sampling(max_tokens=200)))]


def test_restoring_brings_back_every_default_and_nothing_else(dialog, qtbot):
    values = heard(dialog)
    reset = dialog.findChild(QPushButton, "settings_reset")
    qtbot.mouseClick(reset, Qt.MouseButton.LeftButton)
    assert values == [KEPT]
    assert dialog.findChild(QComboBox, "option_cache_mode").currentText() == "int4"
    assert dialog.findChild(QPlainTextEdit, "option_system_prompt").toPlainText() == ""
    assert dialog.findChild(QComboBox, "option_appearance").currentText() == "System"
    assert dialog.findChild(QSpinBox, "option_text_size_percent").value() == 100
    assert not reset.isEnabled()


def test_reset_is_offered_only_where_something_differs(dialog):
    reset = dialog.findChild(QPushButton, "settings_reset")
    assert reset.isEnabled()
    dialog.show_settings(KEPT)
    assert not reset.isEnabled()
    dialog.findChild(QSpinBox, "option_top_k").setValue(3)
    assert reset.isEnabled()


def test_settings_changed_elsewhere_are_shown_in_silence(dialog):
    values = heard(dialog)
    dialog.show_settings(KEPT)
    assert dialog.findChild(QComboBox, "option_cache_mode").currentText() == "int4"
    assert values == []


def test_closing_loses_nothing_that_was_typed(dialog, qtbot):
    with qtbot.waitExposed(dialog):
        dialog.show()
    values = heard(dialog)
    dialog.findChild(QPlainTextEdit, "option_system_prompt").setPlainText("Be kind.")
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()
    assert values[-1].chat.system_prompt == "Be kind."


@pytest.mark.parametrize(("platform", "names"), [("darwin", set()), ("linux", {"settings_close"})])
def test_there_is_nothing_to_confirm(qtbot, monkeypatch, platform, names):
    monkeypatch.setattr(sys, "platform", platform)
    dialog = SettingsDialog(Settings())
    qtbot.addWidget(dialog)
    buttons = dialog.findChild(QDialogButtonBox, "settings_buttons").buttons()
    assert {button.objectName() for button in buttons} == {"settings_reset"} | names


def test_appearance_and_text_size_are_chosen_within_their_bounds(dialog):
    values = heard(dialog)
    box = dialog.findChild(QComboBox, "option_appearance")
    box.setCurrentIndex(box.findText("Light"))
    size = dialog.findChild(QSpinBox, "option_text_size_percent")
    size.setValue(1000)
    assert [(s.appearance, s.text_size_percent) for s in values] == [(Appearance.LIGHT, 130), (Appearance.LIGHT, 200)]
    assert all(s.chat == CHANGED.chat for s in values)


def test_what_is_typed_outlives_a_change_elsewhere(dialog):
    values = heard(dialog)
    edit = dialog.findChild(QPlainTextEdit, "option_system_prompt")
    edit.setPlainText("Be ki")
    dialog.findChild(QSpinBox, "option_text_size_percent").setValue(140)
    dialog.show_settings(replace(values[-1], show_panel=True))
    assert edit.toPlainText() == "Be ki"
    dialog.findChild(QSpinBox, "option_top_k").setValue(7)
    assert values[-1].text_size_percent == 140
