from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QSignalSpy
from PySide6.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QLabel, QPlainTextEdit, QSpinBox, QWidget

from app.chat.options import CacheMode, ChatOptions, Sampling
from app.settings.schema import FIELDS, Settings, checked
from app.ui.options_editor import MEMORY_FIELDS, FieldsEditor, OptionsEditor, Section, bounds_text

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints")  # the offscreen plugin's own remark

CHOSEN = ChatOptions(
    cache_mode=CacheMode.FP16,
    group_size=64,
    system_prompt="Be brief.",
    sampling=Sampling(temperature=0.25, top_p=0.5, top_k=40, min_p=0.05, max_tokens=99, seed=7),
)


@pytest.fixture
def editor(qtbot):
    editor = OptionsEditor(ChatOptions())
    qtbot.addWidget(editor)
    return editor


def heard(editor: OptionsEditor) -> list[ChatOptions]:
    values: list[ChatOptions] = []
    editor.changed.connect(values.append)
    return values


@pytest.mark.parametrize("field", [f for f in FIELDS if f.key.startswith("chat.")], ids=lambda f: f.key)
def test_every_field_has_a_control_with_its_words(editor, field):
    name = "option_" + field.key.rpartition(".")[2]
    control = editor.findChild(QWidget, name)
    assert control.accessibleName() == field.label
    assert field.help in control.accessibleDescription()
    assert bounds_text(field) in control.accessibleDescription()
    assert editor.findChild(QLabel, f"{name}_label").text() == field.label
    assert editor.findChild(QLabel, f"{name}_help").text() == field.help


def test_bounds_and_defaults_are_said():
    said = {field.key.rpartition(".")[2]: bounds_text(field) for field in FIELDS}
    assert said["temperature"] == "0 to 2, default 0.7"
    assert said["max_tokens"] == "1 to 131,072 tokens, default 512"
    assert said["cache_mode"] == "default int4"
    assert said["seed"].endswith("default not set")
    assert said["memory_budget_gb"] == "0.5 to 1,024 GB, default automatic"


def test_options_are_shown_and_given_back_unchanged(editor):
    values = heard(editor)
    editor.set_options(CHOSEN)
    assert editor.findChild(QComboBox, "option_cache_mode").currentText() == "fp16"
    assert editor.findChild(QComboBox, "option_group_size").currentText() == "64 values"
    assert editor.findChild(QPlainTextEdit, "option_system_prompt").toPlainText() == "Be brief."
    assert editor.findChild(QDoubleSpinBox, "option_temperature").value() == 0.25
    assert editor.findChild(QSpinBox, "option_top_k").value() == 40
    assert editor.findChild(QSpinBox, "option_seed_number").value() == 7
    editor.flush()
    assert editor.options() == CHOSEN
    assert values == []


def test_each_control_changes_its_own_field_alone(editor):
    values = heard(editor)
    editor.findChild(QComboBox, "option_cache_mode").setCurrentIndex(1)
    editor.findChild(QComboBox, "option_group_size").setCurrentIndex(1)
    editor.findChild(QDoubleSpinBox, "option_temperature").setValue(1.1)
    editor.findChild(QDoubleSpinBox, "option_top_p").setValue(0.33)
    editor.findChild(QSpinBox, "option_top_k").setValue(5)
    editor.findChild(QDoubleSpinBox, "option_min_p").setValue(0.1)
    editor.findChild(QSpinBox, "option_max_tokens").setValue(64)
    sampling = Sampling(temperature=1.1, top_p=0.33, top_k=5, min_p=0.1, max_tokens=64)
    assert values[0] == ChatOptions(cache_mode=CacheMode.FP16)
    assert values[-1] == editor.options() == ChatOptions(CacheMode.FP16, 64, "", sampling)
    assert len(values) == 7


def test_a_value_finer_than_the_control_survives_an_edit_elsewhere(editor):
    editor.set_options(ChatOptions(sampling=Sampling(top_p=0.955)))
    editor.findChild(QSpinBox, "option_max_tokens").setValue(64)
    assert editor.options().sampling.top_p == 0.955


def test_what_is_out_of_bounds_cannot_be_entered(editor, qtbot):
    for name, typed in (("temperature", "99"), ("top_p", "0"), ("max_tokens", "0"), ("top_k", "-4")):
        box = editor.findChild(QWidget, f"option_{name}")
        box.selectAll()
        qtbot.keyClicks(box, typed)
    qtbot.keyClicks(editor.findChild(QSpinBox, "option_max_tokens"), "words")
    editor.flush()
    assert checked(Settings(chat=editor.options())).chat == editor.options()


def test_half_typed_numbers_are_not_told(editor, qtbot):
    values = heard(editor)
    box = editor.findChild(QSpinBox, "option_max_tokens")
    box.selectAll()
    qtbot.keyClicks(box, "640")
    assert values == []
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert [v.sampling.max_tokens for v in values] == [640]


def test_a_seed_is_fixed_or_left_to_chance(editor):
    values = heard(editor)
    fixed, number = editor.findChild(QCheckBox, "option_seed_fixed"), editor.findChild(QSpinBox, "option_seed_number")
    assert not number.isEnabled()
    fixed.setChecked(True)
    number.setValue(2**31 - 1)
    fixed.setChecked(False)
    assert [v.sampling.seed for v in values] == [0, 2**31 - 1, None]
    assert not number.isEnabled()


def test_a_budget_is_set_or_automatic(qtbot):
    editor = FieldsEditor(Settings(), [Section(MEMORY_FIELDS)])
    qtbot.addWidget(editor)
    values = []
    editor.changed.connect(lambda settings: values.append(settings.memory_budget_gb))
    fixed = editor.findChild(QCheckBox, "option_memory_budget_gb_fixed")
    number = editor.findChild(QDoubleSpinBox, "option_memory_budget_gb_number")
    fixed.setChecked(True)
    number.setValue(12.25)
    number.setValue(0)
    fixed.setChecked(False)
    assert values == [8.0, 12.25, 0.5, None]
    editor.set_settings(Settings(memory_budget_gb=24.0))
    assert (fixed.isChecked(), number.value()) == (True, 24.0)
    assert fixed.accessibleName() == "Memory budget is fixed"


def test_typing_is_told_when_it_pauses(editor, qtbot):
    spy = QSignalSpy(editor.changed)
    edit = editor.findChild(QPlainTextEdit, "option_system_prompt")
    qtbot.keyClicks(edit, "Be kind")
    assert spy.count() == 0
    assert spy.wait(2000)
    assert spy.count() == 1
    assert editor.options().system_prompt == "Be kind"


def test_typing_is_not_lost_when_the_editor_is_hidden(editor, qtbot):
    with qtbot.waitExposed(editor):
        editor.show()
    values = heard(editor)
    editor.findChild(QPlainTextEdit, "option_system_prompt").setPlainText("Be kind")
    box = editor.findChild(QSpinBox, "option_max_tokens")
    box.selectAll()
    qtbot.keyClicks(box, "77")
    editor.hide()
    expected = ChatOptions(system_prompt="Be kind", sampling=Sampling(max_tokens=77))
    assert editor.options() == values[-1] == expected


def test_other_options_shown_meanwhile_are_not_mixed_with_what_was_typed(editor, qtbot):
    editor.findChild(QPlainTextEdit, "option_system_prompt").setPlainText("For the other chat")
    editor.set_options(CHOSEN)
    editor.flush()
    assert editor.options() == CHOSEN


def test_controls_without_effect_are_off(editor):
    editor.set_options(replace(CHOSEN, sampling=Sampling(temperature=0.0)))
    for name in ("group_size", "top_p", "top_k", "min_p", "seed"):
        assert not editor.findChild(QWidget, f"option_{name}").isEnabled()
    editor.findChild(QComboBox, "option_cache_mode").setCurrentIndex(0)
    editor.findChild(QDoubleSpinBox, "option_temperature").setValue(0.5)
    for name in ("group_size", "top_p", "top_k", "min_p", "seed"):
        assert editor.findChild(QWidget, f"option_{name}").isEnabled()
