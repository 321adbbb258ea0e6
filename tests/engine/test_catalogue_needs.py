"""The catalogue's configs make models, whose computed sizes are the published ones."""

import math

import pytest

from app.catalogue.entries import catalogue
from app.chat.options import GROUP_SIZES
from app.engine.estimate import config_needs

ENTRIES = {entry.repo.partition("/")[2]: entry for entry in catalogue()}
UNITS = {"MB": 1e6, "GB": 1e9}


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.listed])
def test_computed_weights_have_the_size_that_is_listed_on_the_hub(name: str) -> None:
    figure, unit = ENTRIES[name].listed.split()
    step = 10 ** -len(figure.partition(".")[2])
    stored = config_needs(ENTRIES[name].config).stored_bytes / UNITS[unit]
    assert stored == pytest.approx(float(figure), abs=0.6 * step), "a header of some KB comes to it"


@pytest.mark.parametrize("name", ENTRIES)
def test_every_model_of_the_catalogue_is_held_in_int4(name: str) -> None:
    needs = config_needs(ENTRIES[name].config)
    assert needs.context_limit_tokens == ENTRIES[name].context_limit_tokens
    assert needs.int4_layers == needs.layers
    assert [i.group_size for i in needs.outlook.int4] == list(GROUP_SIZES)
    ratio = needs.outlook.fp16.token_bytes / needs.outlook.int4[0].growth.token_bytes
    assert math.isclose(ratio, 16 / 4.5)


def test_sliding_windows_are_counted_as_such() -> None:
    needs = config_needs(ENTRIES["gemma-3-1b-it-4bit"].config)
    row = 2 * 1 * 256 * 2  # keys and values, heads, head size, bytes
    assert needs.outlook.fp16.token_bytes == 4 * row, "of 26 layers the 6th, 12th, 18th and 24th keep every token"
    assert needs.outlook.fp16.bytes_at(32_768) == (4 * 32_768 + 22 * 512) * row
