"""Light or dark and the size of text, through the real menu, dialog and windows."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QComboBox, QLabel, QPushButton, QSpinBox, QWidget

from app.settings.file import load_settings
from app.settings.schema import Appearance, Settings
from app.ui.controls import SignButton
from app.ui.look import Look, set_text_size, use_one_font
from app.ui.theme import SubtleLabel, scaled_font
from app.viewmodels.settings_model import SettingsModel


class Hints:
    def __init__(self) -> None:
        self.asked = []

    def setColorScheme(self, scheme: Qt.ColorScheme) -> None:  # noqa: N802
        self.asked.append(scheme)


@pytest.fixture(autouse=True)
def usual_size(qapp):
    yield
    set_text_size(100)
    QApplication.processEvents()


@pytest.fixture
def settings(tmp_path, qapp):
    return SettingsModel(Settings(), tmp_path / "settings.json")


def size_of(widget: QWidget) -> float:
    return widget.font().pointSizeF()


def test_the_platform_is_asked_for_what_is_chosen_and_for_nothing_else(settings):
    hints = Hints()
    look = Look(settings, hints=hints)
    assert hints.asked == []
    for appearance in (Appearance.DARK, Appearance.LIGHT, Appearance.SYSTEM):
        settings.replace(Settings(appearance=appearance))
    settings.replace(Settings(show_panel=False))
    assert hints.asked == [Qt.ColorScheme.Dark, Qt.ColorScheme.Light, Qt.ColorScheme.Unknown]
    look.deleteLater()


def test_a_look_that_was_chosen_holds_from_the_start(tmp_path, qapp):
    hints = Hints()
    look = Look(SettingsModel(Settings(appearance=Appearance.DARK), tmp_path / "s.json"), hints=hints)
    assert hints.asked == [Qt.ColorScheme.Dark]
    look.deleteLater()


def test_texts_keep_their_share_of_the_size(qtbot):
    window = QWidget()
    qtbot.addWidget(window)
    plain, quiet = QLabel("plain", window), SubtleLabel("quiet", window, factor=0.8)
    before = size_of(plain)
    for percent in (200, 70, 150):
        set_text_size(percent)
        QApplication.processEvents()
        assert size_of(plain) == pytest.approx(before * percent / 100)
        assert size_of(quiet) == pytest.approx(before * 0.8 * percent / 100)
    later = SubtleLabel("later", window, factor=0.8)
    assert size_of(later) == pytest.approx(before * 0.8 * 1.5)
    set_text_size(100)
    QApplication.processEvents()
    assert size_of(quiet) == pytest.approx(before * 0.8)


def test_no_kind_of_widget_keeps_a_font_of_its_own(qtbot, qapp):
    """As on macOS, whose tool buttons have a smaller font until the application's is set."""
    QApplication.setFont(scaled_font(QApplication.font(), 0.5), "QToolButton")
    use_one_font(qapp)
    button = SignButton("plus", "new", "New", text="New Chat")
    qtbot.addWidget(button)
    before, width = size_of(button), button.sizeHint().width()
    assert before == QApplication.font().pointSizeF()
    set_text_size(150)
    set_text_size(100)
    QApplication.processEvents()
    assert size_of(button) == pytest.approx(before)
    assert button.sizeHint().width() == width


def test_keys_change_all_windows_at_once_and_are_remembered(driver, qtbot, nibble_home):
    driver.chat("Hello [markdown]")
    driver.window.actions_.settings.trigger()
    dialog = driver.find("settings_dialog")
    text = driver.window.transcript.views[1].text
    before, height = QApplication.font().pointSizeF(), text.height()
    actions = driver.window.actions_
    assert not actions.usual_size.isEnabled()
    for _ in range(3):
        actions.bigger.trigger()
    driver.until(lambda: text.height() > 1.15 * height)
    assert driver.window.font().pointSizeF() == pytest.approx(before * 1.3)
    assert dialog.font().pointSizeF() == pytest.approx(before * 1.3)
    assert dialog.findChild(QSpinBox, "option_text_size_percent").value() == 130
    actions.smaller.trigger()
    assert load_settings(driver.program.models.settings._path).settings.text_size_percent == 120
    actions.usual_size.trigger()
    assert QApplication.font().pointSizeF() == pytest.approx(before)
    driver.until(lambda: text.height() == height)
    for _ in range(20):
        actions.bigger.trigger()
    assert not actions.bigger.isEnabled()
    assert driver.program.models.settings.settings.text_size_percent == 200
    dialog.findChild(QPushButton, "settings_reset").click()
    assert QApplication.font().pointSizeF() == pytest.approx(before)
    dialog.close()


def test_the_dialog_changes_the_window(driver):
    driver.window.actions_.settings.trigger()
    dialog = driver.find("settings_dialog")
    box = dialog.findChild(QComboBox, "option_appearance")
    box.setCurrentIndex(box.findText("Dark"))
    assert driver.program.models.settings.settings.appearance is Appearance.DARK
    dialog.findChild(QPushButton, "settings_reset").click()
    assert driver.program.models.settings.settings == Settings()
    dialog.close()


def test_fields_that_show_the_focus_themselves_have_no_ring_of_the_macs(driver):
    for name in ("search", "find_edit", "conversation_list"):
        assert not driver.find(name).testAttribute(Qt.WidgetAttribute.WA_MacShowFocusRect), name
