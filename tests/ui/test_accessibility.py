"""Every window and dialog, as a screen reader and a keyboard find it."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QShortcut
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QFileDialog,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from app.chat.options import CacheMode
from app.ui.compare_window import CompareWindow
from app.ui.growth_plot import GrowthPlot
from app.ui.meter import Meter
from app.ui.models_window import ModelsWindow
from app.ui.quality_window import QualityWindow
from app.ui.scatter_plot import ScatterPlot
from app.ui.sparkline import Sparkline
from app.ui.stats_window import StatsWindow
from app.ui.theme import SubtleLabel
from app.viewmodels.downloads import DownloadState, DownloadStatus
from app.viewmodels.reply import ChatState
from app.viewmodels.stats_plots import speed_plot
from tests.ui import accessibility
from tests.ui.models_window_parts import LLAMA, models_window
from tests.ui.test_memory_note import FULL, outgrowing
from tests.ui.window_driver import Driver


def empty(driver: Driver) -> QWidget:
    return driver.window


def conversation(driver: Driver) -> QWidget:
    driver.chat("Write something [markdown]")
    driver.chat("And once more [markdown]")
    return driver.window


def editing(driver: Driver) -> QWidget:
    driver.chat("Hello")
    driver.window.actions_.edit_last.trigger()
    return driver.window


def streaming(driver: Driver) -> QWidget:
    driver.say("A long one [tokens 4000] [token-ms 5]")
    driver.until(lambda: driver.session.state is ChatState.DECODING)
    return driver.window


def engine_down(driver: Driver) -> QWidget:
    driver.say("Break [tokens 20] [abort decode]")
    driver.until(lambda: driver.session.state is ChatState.FAILED)
    return driver.window


def notice(driver: Driver) -> QWidget:
    driver.window.notice.show_notice("Something went wrong.", "Try again.", "Traceback")
    return driver.window


def details(driver: Driver) -> QWidget:
    notice(driver)
    driver.click("notice_details")
    return driver.find("details_dialog", QDialog)


def settings(driver: Driver) -> QWidget:
    driver.window.actions_.settings.trigger()
    return driver.find("settings_dialog", QDialog)


def options(driver: Driver) -> QWidget:
    driver.window.actions_.options.trigger()
    return driver.find("options_dialog", QDialog)


def options_fp16(driver: Driver) -> QWidget:
    dialog = options(driver)
    box = dialog.findChild(QComboBox, "option_cache_mode")
    box.setCurrentIndex(list(CacheMode).index(CacheMode.FP16))
    return dialog


def about(driver: Driver) -> QWidget:
    driver.window.actions_.about.trigger()
    return driver.find("about_dialog", QDialog)


def licences(driver: Driver) -> QWidget:
    about(driver)
    driver.click("about_licences")
    return driver.find("licences_dialog", QDialog)


def token(driver: Driver) -> QWidget:
    driver.window.actions_.token.trigger()
    dialog = driver.find("token_dialog", QDialog)
    driver.until(lambda: not driver.program.models.token.is_busy)
    return dialog


def rename(driver: Driver) -> QWidget:
    driver.chat("Hello")
    driver.window.actions_.rename.trigger()
    return driver.find("rename_dialog", QDialog)


def link(driver: Driver) -> QWidget:
    driver.chat("Hello")
    driver.window.transcript.link_activated.emit("https://example.org")
    return driver.find("link_dialog", QDialog)


def compare(driver: Driver) -> QWidget:
    driver.window.actions_.compare.trigger()
    return driver.window.findChild(CompareWindow)


def compared(driver: Driver) -> QWidget:
    driver.window.composer.write("Tell me a story [tokens 30] [part 9]")
    window = compare(driver)
    results = []
    window.compared.connect(results.append)
    window.start()
    driver.until(lambda: bool(results))
    return window


def quality(driver: Driver) -> QWidget:
    driver.window.actions_.quality.trigger()
    return driver.window.findChild(QualityWindow)


def measured(driver: Driver) -> QWidget:
    window = quality(driver)
    window.start()
    driver.until(window.findChild(QWidget, "quality_report").isVisible)
    return window


def stats(driver: Driver) -> QWidget:
    driver.chat("Hello")
    driver.window.actions_.stats.trigger()
    return driver.window.findChild(StatsWindow)


def models(driver: Driver) -> QWidget:
    driver.window.actions_.models.trigger()
    return driver.window.findChild(ModelsWindow)


def fetching(driver: Driver) -> QWidget:
    return models_window(driver, {LLAMA: DownloadState(DownloadStatus.RUNNING, 1_000, 9_000)}, LLAMA)


def failed_to_fetch(driver: Driver) -> QWidget:
    return models_window(driver, {LLAMA: DownloadState(DownloadStatus.FAILED, error="The hub is out of reach.")}, LLAMA)


def refused(driver: Driver) -> QWidget:
    folder = driver.program.models.model.facts.path
    driver.session.load_model(f"{folder} [big]")
    driver.until(lambda: driver.window.findChild(QDialog, "fit_dialog") is not None)
    return driver.find("fit_dialog", QDialog)


def finding(driver: Driver) -> QWidget:
    driver.chat("Write something [markdown]")
    driver.window.actions_.find.trigger()
    return driver.window


def thinking(driver: Driver) -> QWidget:
    driver.chat("Think first [think 20]")
    return driver.window


def outgrown(driver: Driver) -> QWidget:
    outgrowing(driver).chat(FULL)
    assert driver.find("memory_int4").isVisible()
    return driver.window


def shorten(driver: Driver) -> QWidget:
    outgrown(driver)
    driver.click("memory_shorten")
    return driver.find("shorten_dialog", QDialog)


SCENES = (
    empty,
    stats,
    models,
    fetching,
    failed_to_fetch,
    refused,
    finding,
    thinking,
    outgrown,
    shorten,
    conversation,
    editing,
    streaming,
    engine_down,
    notice,
    details,
    settings,
    options,
    options_fp16,
    about,
    licences,
    token,
    rename,
    link,
    compare,
    compared,
    quality,
    measured,
)


@pytest.fixture(params=SCENES, ids=lambda scene: scene.__name__)
def shown(request, driver, qtbot):
    window = request.param(driver)
    qtbot.waitUntil(window.isVisible)
    accessibility.activate(window)
    yield window
    for dialog in driver.window.findChildren(QDialog):
        dialog.close()
    driver.session.stop()
    driver.until(lambda: driver.session.state in (ChatState.IDLE, ChatState.FAILED))


def test_controls_have_names_roles_and_places_in_the_tab_order(shown):
    controls = accessibility.controls_of(shown)
    assert controls
    wrong = {
        "no name": accessibility.unnamed(controls),
        "no role": accessibility.without_role(controls),
        "no object name": accessibility.without_object_name(controls),
        "object name used twice": accessibility.repeated_object_names(controls),
        "mouse only": accessibility.beyond_tab(controls),
        "keys used twice": accessibility.repeated_keys(shown),
        "missed by Tab": accessibility.missed_by_tab(shown),
        "text not said": accessibility.unsaid(shown),
        "passed over": accessibility.passed_over(shown),
        "reads HTML": accessibility.readers_of_html(shown),
    }
    assert not {what: where for what, where in wrong.items() if where}


def test_every_key_stands_in_a_menu(driver):
    assert accessibility.keys_outside_menus(driver.window) == []


def test_the_walk_tells_what_is_wrong(qtbot):
    """Nothing above is worth anything if the walk sees nothing."""
    window = QWidget()
    qtbot.addWidget(window)
    column = QVBoxLayout(window)
    column.addWidget(QLabel("A text"))
    named, plain = QLabel("3 of 4"), QWidget()
    named.setTextFormat(Qt.TextFormat.PlainText)
    named.setAccessibleName("Place")
    plain.setAccessibleDescription("A line that rises")
    for part in (named, plain):
        column.addWidget(part)
    parts = (QPushButton(), QPushButton("Mouse"), QScrollArea(), QLineEdit())
    for part in parts:
        part.setObjectName("same")
        column.addWidget(part)
    parts[1].setFocusPolicy(Qt.FocusPolicy.ClickFocus)
    parts[3].setObjectName("")
    parts[3].setAccessibleName("Line")
    for _ in range(2):
        QShortcut("Ctrl+J", window)
    window.show()
    accessibility.activate(window)
    controls = accessibility.controls_of(window)
    assert set(controls) == set(parts)
    assert len(accessibility.unnamed(controls)) == 2
    assert len(accessibility.without_role(controls)) == 1
    assert len(accessibility.without_object_name(controls)) == 1
    assert accessibility.repeated_object_names(controls) == ["same"]
    assert len(accessibility.beyond_tab(controls)) == 1
    assert accessibility.repeated_keys(window) == ["Ctrl+J"]
    assert accessibility.missed_by_tab(window) == []
    assert accessibility.readers_of_html(window) == ["A text"]
    assert len(accessibility.unsaid(window)) == 1
    assert len(accessibility.passed_over(window)) == 1


def test_a_label_with_a_name_says_its_text_too(qtbot):
    label = SubtleLabel()
    qtbot.addWidget(label)
    label.setText("Ready")
    assert accessibility.name_of(label) == "Ready"
    label.setAccessibleName("State of the chat")
    assert accessibility.name_of(label) == "State of the chat: Ready"
    label.setText("Writing")
    assert accessibility.name_of(label) == "State of the chat: Writing"
    for blank in ("", " "):
        label.setText(blank)
        assert accessibility.name_of(label) == "State of the chat"
    label.setText("Ready")
    label.setAccessibleName("")
    assert accessibility.name_of(label) == "Ready"


def test_what_draws_itself_is_a_graphic_with_its_words(qtbot):
    drawn = (Meter("Shown"), Sparkline("Shown"), GrowthPlot("Shown"), ScatterPlot(speed_plot(()), "plot"))
    for picture in drawn:
        qtbot.addWidget(picture)
        picture.setAccessibleName("Shown")
        found = QAccessible.queryAccessibleInterface(picture)
        assert found.role() is QAccessible.Role.Graphic
        assert accessibility.name_of(picture) == "Shown"
        picture.setAccessibleDescription("In words")
        assert found.text(QAccessible.Text.Description) == "In words"


def test_file_dialogs_are_the_platforms(driver):
    """They are Qt's or the system's own, and named as a whole."""
    driver.window.actions_.open_model.trigger()
    dialog = driver.find("folder_dialog", QFileDialog)
    assert dialog.windowTitle()
    dialog.close()
