from dataclasses import replace

import pytest

from app.chat.options import CacheMode
from app.viewmodels.stats_plots import memory_plot, speed_plot
from tests.chat_parts import FIGURES
from tests.viewmodels.test_stats_table import ROWS, row


def test_speed_stands_over_context_by_mode_and_the_unmeasured_is_left_out():
    plot = speed_plot((*ROWS, row(500, 30.0, "Fourth", CacheMode.FP16)))
    assert [series.mode for series in plot.series] == [CacheMode.INT4, CacheMode.FP16]
    assert [(m.x, m.y) for m in plot.series[0].marks] == [(0.9, 0.6875), (1.0, pytest.approx(9.5 / 60))]
    assert plot.series[1].marks[0].text == "Fourth: 30.0 tokens/s in fp16 at 500 tokens"
    assert [text for _, text in plot.x.ticks] == ["0", "250", "500", "750", "1,000"]
    assert [text for _, text in plot.y.ticks] == ["0", "20", "40", "60"]


def test_memory_stands_over_context_in_units_of_its_axis():
    plot = memory_plot(ROWS)
    assert [text for _, text in plot.y.ticks] == ["0", "5 MB", "10 MB", "15 MB"]
    assert plot.series[1].marks[0].y == pytest.approx(12.8 / 15)
    assert "3.60 MB at 900 tokens to 3.60 MB at 1,000" in plot.text
    assert "fp16, 1 reply: 12.8 MB at 80 tokens." in plot.text


@pytest.mark.parametrize("plot", [speed_plot, memory_plot])
def test_marks_and_ticks_stay_within_the_axes(plot):
    for count in (1, 3, 7, 99, 101, 4096, 131_072):
        found = plot([row(count, float(count))])
        ends = [place for axis in (found.x, found.y) for place, _ in axis.ticks]
        assert ends[0] == 0
        assert max(ends) == 1
        assert 2 <= len(found.x.ticks) <= 6
        assert len({text for _, text in found.x.ticks}) == len(found.x.ticks)
        (mark,) = found.series[0].marks
        assert 0 < mark.x <= 1
        assert 0 < mark.y <= 1


@pytest.mark.parametrize("plot", [speed_plot, memory_plot])
def test_nothing_is_drawn_of_nothing(plot):
    empty = replace(FIGURES.cache, tokens=0, allocated_bytes=0)
    nothing = replace(ROWS[0], figures=replace(FIGURES, cache=empty, decode_tokens_per_s=0.0))
    for rows in ((), (nothing,)):
        found = plot(rows)
        assert found.series == ()
        assert "Nothing measured yet." in found.text
        assert [text for _, text in found.y.ticks] == ["0"]
