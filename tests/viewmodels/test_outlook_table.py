from dataclasses import replace

import pytest

from app.chat.options import CacheMode
from app.chat.outlook import CacheGrowth, Int4Growth, LayerGrowth, Outlook, WorkingSet
from app.viewmodels.outlook_table import LENGTHS, outlook_table
from app.viewmodels.panel_state import UNMEASURED
from tests.chat_parts import MODEL

FP16 = CacheGrowth((LayerGrowth(20, 40_000, 256), LayerGrowth(4, 8_000, 256, 512)))
INT4 = CacheGrowth((LayerGrowth(20, 11_250, 256), LayerGrowth(4, 2_250, 256, 512)))
OUTLOOK = Outlook(FP16, (Int4Growth(32, INT4),), 4_000_000_000, "this machine's physical memory")
FACTS = replace(MODEL, context_limit_tokens=131_072, weight_bytes=1_000_000_000, outlook=OUTLOOK)


def rows_of(facts, group_size=32):
    return {row.key: row for row in outlook_table(facts, group_size).rows}


def test_every_length_has_a_figure_in_either_mode():
    rows = rows_of(FACTS)
    assert [rows[f"at_{n}"].label for n in LENGTHS] == ["8K tokens", "32K tokens", "128K tokens"]
    assert (rows["at_8192"].int4, rows["at_8192"].fp16) == ("93.3 MB", "332 MB")
    assert f"{8192 * 11_250 + 512 * 2_250:,} bytes" in rows["at_8192"].tooltip
    assert (rows["at_131072"].int4, rows["at_131072"].fp16) == ("1.48 GB", "5.25 GB")


def test_the_longest_context_fits_beside_the_weights_and_says_how_it_was_found():
    row = rows_of(FACTS)["longest"]
    assert (row.int4, row.fp16) == ("131,072", "74,752")
    assert FP16.bytes_at(74_752) <= 3_000_000_000 < FP16.bytes_at(74_753)
    for said in ("4.00 GB", "physical memory", "1.00 GB of weights", "131,072 tokens", "working set"):
        assert said in row.tooltip
    assert outlook_table(FACTS, 32).note == (
        "In int4, longest is the model's limit; memory alone would hold 266K tokens in int4, 74.8K in fp16."
    )


def test_the_working_set_is_taken_off_what_the_longest_context_can_have():
    work = WorkingSet(100_000_000, 10_000, 20_000)
    row = rows_of(replace(FACTS, outlook=replace(OUTLOOK, work=work)))["longest"]
    tokens = int(row.fp16.replace(",", ""))
    assert 50_000 < tokens < 74_752
    assert FP16.bytes_at(tokens) + work.bytes_at(tokens, CacheMode.FP16) <= 3_000_000_000
    assert FP16.bytes_at(tokens + 1) + work.bytes_at(tokens + 1, CacheMode.FP16) > 3_000_000_000


def test_lengths_beyond_the_models_own_limit_are_marked():
    table = outlook_table(replace(FACTS, context_limit_tokens=16_384), 32)
    assert [row.label for row in table.rows] == ["8K tokens", "32K tokens †", "128K tokens †", "Longest, in tokens"]
    assert "reads at most 16,384 tokens" in table.rows[1].tooltip
    assert "† More than this model's own limit of 16,384 tokens." in table.note
    assert "In both modes, longest is the model's limit" in table.note


def test_a_cache_that_stops_growing_has_no_longest_but_the_models():
    ring = CacheGrowth((LayerGrowth(4, 8_000, 256, 512),))
    facts = replace(FACTS, outlook=replace(OUTLOOK, fp16=ring, int4=(Int4Growth(32, ring),)))
    assert rows_of(facts)["longest"].fp16 == "131,072"
    assert "over a thousand million tokens in int4" in outlook_table(facts, 32).note


def test_small_memory_says_small_numbers():
    tiny = replace(OUTLOOK, memory_bytes=FACTS.weight_bytes + FP16.bytes_at(512))
    assert rows_of(replace(FACTS, outlook=tiny))["longest"].fp16 == "512"
    at_limit = replace(FACTS, outlook=tiny, context_limit_tokens=512)
    assert "tokens in int4, 512 in fp16." in outlook_table(at_limit, 32).note


def test_weights_that_fill_memory_leave_room_for_nothing():
    row = rows_of(replace(FACTS, weight_bytes=5_000_000_000))["longest"]
    assert (row.int4, row.fp16) == ("none fits", "none fits")


@pytest.mark.parametrize("facts", [None, replace(FACTS, outlook=None), MODEL])
def test_what_is_not_known_is_a_dash(facts):
    table = outlook_table(facts, 32)
    assert {cell for row in table.rows for cell in (row.int4, row.fp16)} == {UNMEASURED}
    assert table.note == ""
