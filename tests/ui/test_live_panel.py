from dataclasses import replace

import pytest
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QLabel, QWidget

from app.chat.figures import CacheFigures, LayerNote, MemoryFigures, ModelFacts
from app.chat.options import CacheMode, ChatOptions
from app.chat.outlook import CacheGrowth, Int4Growth, LayerGrowth, Outlook
from app.engine.protocol import Prefill
from app.ui.growth_plot import GrowthPlot
from app.ui.live_panel import LivePanel
from app.ui.meter import Meter
from app.ui.sparkline import Sparkline
from app.ui.theme import SubtleLabel, subtle
from app.viewmodels.cache_course import Course, Reading, course_of
from app.viewmodels.outlook_table import LENGTHS, outlook_table
from app.viewmodels.panel_state import LABELS, empty_panel, panel_of, prefill_panel

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints")  # the offscreen plugin's own remark

REASON = "head size 80 is not supported by this cache, and no rotation of that size packs into whole words " * 3
CACHE = CacheFigures(
    CacheMode.INT4, 32, "cpu", 412, 2_950_000, 3_686_400, 10_547_200, 13_107_200, 20, 24, (LayerNote((0, 1), REASON),)
)
FP16 = replace(CACHE, mode=CacheMode.FP16, used_bytes=10_547_200, allocated_bytes=13_107_200, layers_int4=0, notes=())
MEMORY = MemoryFigures(48_100_000, 61_000_000, 12_000_000)
MODEL = ModelFacts("Starter", "/m", "qwen2", 27_800_000, 16_000_000, 24, 1024, "bfloat16", 24, ())


def state_of(cache: CacheFigures):
    return panel_of(cache, MEMORY, 0.3412, 1520.3, 41.2, 1024, (38.0, 42.0, 41.2))


@pytest.fixture
def panel(qtbot):
    panel = LivePanel()
    qtbot.addWidget(panel)
    return panel


def text_of(panel: LivePanel, name: str) -> str:
    return panel.findChild(QLabel, name).text()


def test_every_figure_stands_beside_its_label_with_its_explanation(panel):
    state = state_of(CACHE)
    panel.show_state(state)
    for row in state.rows:
        value = panel.findChild(QLabel, "panel_" + row.key.replace(".", "_"))
        assert value.text() == row.value
        assert value.toolTip() == value.accessibleDescription() == row.tooltip
        assert row.label in value.accessibleName()


def test_headline_mode_and_reasons_are_shown(panel):
    panel.show_state(state_of(CACHE))
    assert text_of(panel, "panel_headline") == "3.56x smaller than fp16"
    assert "4.5 bits" in text_of(panel, "panel_mode")
    assert REASON.strip() in text_of(panel, "panel_layer_notes")
    assert panel.findChild(QWidget, "panel_status").isHidden()


def test_bars_are_told_apart_by_words(panel):
    panel.show_state(state_of(CACHE))
    labels = {label.text() for label in panel.findChildren(QLabel)}
    assert {"This cache, int4", "In fp16"} <= labels
    own = panel.findChild(Meter, "panel_own_bar")
    assert own.shares() == (pytest.approx(0.28125), pytest.approx(2_950_000 / 13_107_200))
    assert "3.69 MB allocated, of it 2.95 MB used" in own.accessibleDescription()
    assert panel.findChild(Meter, "panel_fp16_bar").shares()[0] == 1.0


def test_fp16_is_shown_as_fp16(panel):
    panel.show_state(state_of(CACHE))
    panel.show_state(state_of(FP16))
    assert "This cache, fp16" in {label.text() for label in panel.findChildren(QLabel)}
    own, other = panel.findChild(Meter, "panel_own_bar"), panel.findChild(Meter, "panel_fp16_bar")
    assert own.shares() == other.shares()
    assert text_of(panel, "panel_cache_ratio") == "1.00x"
    assert "smaller" not in text_of(panel, "panel_headline")


def test_rows_are_made_once_and_rewritten_after(panel):
    panel.show_state(empty_panel(MODEL, ChatOptions()))
    before = panel.findChild(QLabel, "panel_speed_decode")
    assert before.text() == "–"
    panel.show_state(state_of(CACHE))
    assert panel.findChild(QLabel, "panel_speed_decode") is before
    assert before.text() == "41.2 tokens/s"
    assert len(panel.findChildren(QLabel, "panel_speed_decode")) == 1


def test_reading_the_prompt_is_said_and_then_no_longer(panel):
    panel.show_state(prefill_panel(state_of(CACHE), Prefill("r", 256, 512, 0)))
    status = panel.findChild(QLabel, "panel_status")
    assert status.text() == "Reading 256 of 512 new tokens"
    assert not status.isHidden()
    panel.show_state(state_of(CACHE))
    assert status.isHidden()


def test_the_sparkline_says_in_words_what_it_draws(panel):
    panel.show_state(state_of(CACHE))
    line = panel.findChild(Sparkline, "panel_sparkline")
    assert line.values() == (38.0, 42.0, 41.2)
    assert line.accessibleDescription() == line.toolTip() == state_of(CACHE).speeds_text


def test_the_context_meter_says_how_full_it_is(panel):
    panel.show_state(state_of(CACHE))
    meter = panel.findChild(Meter, "panel_context_bar")
    assert meter.shares() == (0.0, pytest.approx(412 / 1024))
    assert meter.accessibleDescription() == "412 of 1,024 tokens (40 %)"


def test_a_narrow_panel_wraps_long_reasons_and_cuts_nothing_off(panel, qtbot):
    panel.show_state(state_of(CACHE))
    panel.resize(200, 500)
    panel.show()
    page = panel.findChild(QWidget, "panel_page")
    qtbot.waitUntil(lambda: page.width() <= 200)
    notes = panel.findChild(QLabel, "panel_layer_notes")
    assert notes.height() >= notes.heightForWidth(notes.width())
    for key in LABELS:
        value = panel.findChild(QLabel, "panel_" + key.replace(".", "_"))
        assert value.mapTo(page, value.rect().bottomRight()).x() < page.width()


@pytest.mark.parametrize("values", [(), (41.0,), (0.0, 0.0), (1.0, 3.0, 2.0)])
def test_any_course_can_be_drawn(qtbot, values):
    line = Sparkline("Speed")
    qtbot.addWidget(line)
    line.set_values(values, "Speed")
    line.resize(120, 30)
    assert not line.grab().isNull()


def test_a_fuller_meter_paints_more_of_its_width(qtbot):
    meter = Meter("Share")
    qtbot.addWidget(meter)
    meter.resize(100, 10)
    meter.set_shares(0.0, 0.25, "a quarter")
    quarter = meter.grab().toImage()
    meter.set_shares(0.0, 0.75, "three quarters")
    most = meter.grab().toImage()
    assert quarter.pixelColor(10, 5) == most.pixelColor(10, 5)
    assert quarter.pixelColor(50, 5) != most.pixelColor(50, 5) == most.pixelColor(10, 5)
    assert quarter.pixelColor(90, 5) == most.pixelColor(90, 5)


def test_secondary_text_follows_the_palette_of_its_window(qtbot):
    window = QWidget()
    qtbot.addWidget(window)
    label = SubtleLabel("quiet", window)
    dark = QPalette()
    dark.setColor(QPalette.ColorRole.Window, QColor(30, 30, 30))
    dark.setColor(QPalette.ColorRole.WindowText, QColor(230, 230, 230))
    window.setPalette(dark)
    assert label.palette().color(QPalette.ColorRole.WindowText) == subtle(dark)
    assert label.palette().color(QPalette.ColorRole.WindowText).lightness() > 120


def test_the_outlook_stands_with_its_explanation_and_names(panel):
    panel.show_outlook(outlook_table(None, 32))
    first = panel.findChild(QLabel, "panel_outlook_at_8192_int4")
    assert first.text() == "–"
    note = panel.findChild(QLabel, "panel_outlook_note")
    assert note.isHidden()
    growth = [CacheGrowth((LayerGrowth(24, row, 256),)) for row in (12_000, 3_375)]
    outlook = Outlook(growth[0], (Int4Growth(32, growth[1]),), 10**9, "memory made up here")
    table = outlook_table(replace(MODEL, outlook=outlook), 32)
    panel.show_outlook(table)
    for row in table.rows:
        for mode, text in (("int4", row.int4), ("fp16", row.fp16)):
            figure = panel.findChild(QLabel, f"panel_outlook_{row.key}_{mode}")
            assert figure.text() == text
            assert figure.toolTip() == figure.accessibleDescription() == row.tooltip
            assert mode in figure.accessibleName()
    assert panel.findChild(QLabel, "panel_outlook_at_8192_int4") is first
    assert first.text() == "27.6 MB"
    assert note.text().startswith("† More than this model's own limit of 1,024 tokens.")
    assert len(table.rows) == len(LENGTHS) + 1


def test_two_lines_grow_and_say_in_words_what_they_draw(panel, qtbot):
    plot = panel.findChild(GrowthPlot, "panel_growth")
    assert plot.accessibleName()
    assert plot.accessibleDescription() == Course().text
    course = course_of([Reading(100, 25_000, 90_000), Reading(400, 100_000, 360_000)], CacheMode.INT4)
    panel.show_course(course)
    panel.resize(300, 700)
    panel.show()
    assert plot.course() is course
    assert plot.toolTip() == plot.accessibleDescription() == course.text
    picture = plot.grab().toImage()
    panel.show_course(course_of([Reading(400, 360_000, 360_000)], CacheMode.FP16))
    assert plot.grab().toImage() != picture


def test_the_lines_differ_in_grey_too(panel):
    plot = panel.findChild(GrowthPlot, "panel_growth")
    grey = QPalette(plot.palette())
    for role in (QPalette.ColorRole.Accent, QPalette.ColorRole.WindowText):
        grey.setColor(role, QColor("black"))
    panel.setPalette(grey)
    panel.resize(300, 700)
    course = course_of([Reading(400, 100_000, 360_000)], CacheMode.INT4)
    panel.show_course(course)
    whole = plot.grab().toImage()
    panel.show_course(replace(course, own=course.fp16, fp16=course.own))
    assert plot.grab().toImage() != whole, "solid and dashed"
