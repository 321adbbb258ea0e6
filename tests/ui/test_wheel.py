"""The wheel over a page of boxes: it scrolls, and changes what has the keyboard alone."""

import pytest
from PySide6.QtCore import QPoint, QPointF
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractSpinBox, QComboBox, QScrollArea, QWidget

from app.settings.schema import Settings
from app.ui.settings_dialog import SettingsDialog
from tests.ui import accessibility

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints")  # the offscreen plugin's own remark

SHOWN = Settings(memory_budget_gb=8.0)


@pytest.fixture
def dialog(qtbot):
    dialog = SettingsDialog(SHOWN)
    qtbot.addWidget(dialog)
    dialog.resize(600, 300)
    dialog.show()
    accessibility.activate(dialog)
    return dialog


def boxes_of(window: QWidget) -> list[QWidget]:
    return window.findChildren(QAbstractSpinBox) + window.findChildren(QComboBox)


def turn(dialog: SettingsDialog, box: QWidget, steps: int) -> None:
    """Turn the wheel over the middle of `box`."""
    place = QPointF(box.mapTo(dialog, box.rect().center()))
    QTest.wheelEvent(dialog.windowHandle(), place, QPoint(0, 120 * steps))


def test_a_page_scrolls_over_boxes_and_leaves_their_values_alone(dialog):
    scroll = dialog.findChild(QScrollArea, "settings_scroll")
    bar = scroll.verticalScrollBar()
    assert len(boxes_of(dialog)) > 8
    for box in boxes_of(dialog):
        dialog.findChild(QWidget, "settings_reset").setFocus()
        for steps in (-1, 1):
            scroll.ensureWidgetVisible(box, 0, 100)
            bar.setValue(min(max(bar.value(), 1), bar.maximum() - 1))
            before = bar.value()
            turn(dialog, box, steps)
            assert (before - bar.value()) * steps > 0, box.objectName()
            assert not box.hasFocus()
    assert dialog._settings == SHOWN


def test_a_box_with_the_keyboard_turns_and_the_page_stands(dialog):
    dialog.go_to("saved_caches_gb")
    box = dialog.findChild(QAbstractSpinBox, "option_saved_caches_gb")
    bar = dialog.findChild(QScrollArea, "settings_scroll").verticalScrollBar()
    before, at = box.value(), bar.value()
    turn(dialog, box, 1)
    assert box.value() == before + box.singleStep()
    assert bar.value() == at
