"""Windows come back as large as they were, and prompts' fields keep their lines in any size of text."""

import pytest
from PySide6.QtCore import QSettings, QSize
from PySide6.QtWidgets import QApplication, QDialog

from app.ui.compare_window import CompareWindow
from app.ui.prompt_edit import PromptEdit
from app.ui.stats_window import StatsWindow
from app.ui.theme import GAP
from app.ui.window_places import WindowPlaces


def test_a_window_comes_back_as_large_as_it_was(tmp_path, qtbot):
    file = str(tmp_path / "window.ini")
    first = QDialog()
    qtbot.addWidget(first)
    first.setObjectName("some_window")
    WindowPlaces(QSettings(file, QSettings.Format.IniFormat), first).keep(first)
    first.show()
    first.resize(QSize(431, 287))
    first.close()
    other, second = QDialog(), QDialog()
    for window, name in ((other, "another_window"), (second, "some_window")):
        qtbot.addWidget(window)
        window.setObjectName(name)
        WindowPlaces(QSettings(file, QSettings.Format.IniFormat), window).keep(window)
    assert second.size() == QSize(431, 287)
    assert other.size() != QSize(431, 287)


@pytest.mark.parametrize(("command", "kind"), [("stats", StatsWindow), ("compare", CompareWindow)])
def test_the_windows_beside_the_chat_remember_their_size(driver, command, kind):
    size = QSize(700, 540)
    for is_second in (False, True):
        getattr(driver.window.actions_, command).trigger()
        window = driver.window.findChild(kind)
        if is_second:
            assert window.size() == size
        window.resize(size)
        window.close()
        driver.until(lambda: driver.window.findChild(kind) is None)


def test_a_prompts_field_has_its_lines_in_any_size_of_text(qtbot):
    edit = PromptEdit(lines=4)
    qtbot.addWidget(edit)
    edit.show()
    before = edit.height()
    font = edit.font()
    font.setPointSizeF(1.5 * font.pointSizeF())
    edit.setFont(font)
    assert edit.height() == 4 * edit.fontMetrics().lineSpacing() + 2 * GAP
    assert edit.height() > before


def test_bigger_text_gives_fields_and_panel_their_room(driver):
    driver.window.actions_.options.trigger()
    prompt = driver.window.findChild(PromptEdit, "option_system_prompt")
    heights, widths = [], []
    for _ in range(2):
        QApplication.processEvents()
        heights.append((prompt.height(), driver.window.composer.edit.height()))
        widths.append(driver.window.panel.minimumSizeHint().width())
        driver.program.models.settings.zoom(1)
        driver.program.models.settings.zoom(1)
        driver.program.models.settings.zoom(1)
    assert heights[1][0] > heights[0][0]
    assert heights[1][1] > heights[0][1]
    assert widths[1] >= widths[0]
    panel = driver.window.panel
    driver.until(lambda: panel.width() >= panel.minimumSizeHint().width())
