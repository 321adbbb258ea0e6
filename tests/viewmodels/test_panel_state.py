from dataclasses import replace

import pytest

from app.chat.figures import CacheFigures, LayerNote, MemoryFigures, ModelFacts
from app.chat.options import CacheMode, ChatOptions
from app.engine.protocol import Prefill
from app.viewmodels.panel_state import (
    EXPLANATIONS,
    LABELS,
    UNMEASURED,
    asked_panel,
    empty_panel,
    format_bytes,
    format_layers,
    format_seconds,
    format_speed,
    panel_of,
    prefill_panel,
)

CACHE = CacheFigures(
    mode=CacheMode.INT4,
    group_size=32,
    path="cpu, plain MLX operations",
    tokens=412,
    used_bytes=2_950_000,
    allocated_bytes=3_686_400,
    fp16_used_bytes=10_547_200,
    fp16_allocated_bytes=13_107_200,
    layers_int4=20,
    layers_total=24,
    notes=(LayerNote((0, 1, 2, 7), "head size 80 is not supported"),),
)
FP16 = replace(CACHE, mode=CacheMode.FP16, used_bytes=10_547_200, allocated_bytes=13_107_200, layers_int4=0, notes=())
MEMORY = MemoryFigures(48_100_000, 61_000_000, 0, 212_000_000, "resident set")
MODEL = ModelFacts("Starter", "/m", "qwen2", 27_800_000, 16_000_000, 24, 1024, "bfloat16", 24, ())
SPEEDS = (38.0, 42.0, 41.2)


def measured(cache: CacheFigures = CACHE, **changes: float):
    values = {"ttft_s": 0.3412, "prefill_tokens_per_s": 1520.3, "decode_tokens_per_s": 41.2} | changes
    return panel_of(cache, MEMORY, context_limit_tokens=1024, speeds=SPEEDS, compute_dtype="bfloat16", **values)


def test_every_figure_of_a_reply_is_shown():
    shown = {row.key: row.value for row in measured().rows}
    assert shown == {
        "cache.used": "2.95 MB",
        "cache.allocated": "3.69 MB",
        "cache.fp16": "13.1 MB",
        "cache.ratio": "3.56x",
        "cache.layers": "20 of 24",
        "cache.path": "cpu, plain MLX operations",
        "speed.decode": "41.2 tokens/s",
        "speed.prefill": "1,520 tokens/s",
        "speed.ttft": "341 ms",
        "context.used": "412 of 1,024 tokens (40 %)",
        "context.reused": "none",
        "memory.active": "48.1 MB",
        "memory.peak": "61.0 MB",
        "memory.pool": "0 bytes",
        "memory.process": "212 MB",
    }


@pytest.mark.parametrize(
    ("reused", "from_disk", "text"),
    [(0, 0, "none"), (8012, 0, "8,012 tokens"), (8012, 8012, "8,012 tokens, from disk")],
)
def test_tokens_that_were_not_read_again_say_where_they_came_from(reused, from_disk, text):
    panel = measured(reused_tokens=reused, disk_tokens=from_disk)
    assert panel.value("context.reused") == text
    assert asked_panel(panel, MODEL, ChatOptions()).value("context.reused") == UNMEASURED


def test_every_row_says_what_it_is_and_byte_counts_say_the_exact_number():
    rows = measured().rows
    assert [row.key for row in rows] == list(LABELS) == list(EXPLANATIONS)
    assert all(len(row.tooltip) > 40 for row in rows)
    assert next(row for row in rows if row.key == "cache.allocated").tooltip.endswith("Now 3,686,400 bytes.")


def test_int4_says_what_it_saves_and_why_some_layers_are_left_out():
    panel = measured()
    assert panel.headline == "3.56x smaller than fp16"
    assert panel.mode_line == "int4, one scale for 32 values: 4.5 bits a value"
    assert panel.layer_notes == ("Layers 0–2, 7: head size 80 is not supported",)


def test_fp16_claims_no_saving_and_names_its_type():
    panel = measured(FP16)
    assert panel.headline == "Held in fp16: nothing saved"
    assert panel.value("cache.ratio") == "1.00x"
    assert panel.value("cache.layers") == "0 of 24"
    assert "bfloat16" in panel.mode_line
    assert panel.allocated_share == panel.fp16_allocated_share == 1.0
    assert panel.layer_notes == ("This chat's cache mode is fp16: every layer is kept in fp16.",)


@pytest.mark.parametrize(
    ("fp16_bytes", "headline"), [(3_686_400, "As large as fp16"), (1_843_200, "2.00x larger than fp16")]
)
def test_int4_that_saves_nothing_does_not_say_smaller(fp16_bytes, headline):
    assert measured(replace(CACHE, fp16_allocated_bytes=fp16_bytes)).headline == headline


def test_layers_left_out_without_a_reason_are_not_passed_over():
    assert "4 of 24" in measured(replace(CACHE, notes=())).layer_notes[0]


def test_the_process_says_how_it_was_measured():
    row = next(row for row in measured().rows if row.key == "memory.process")
    assert row.tooltip.endswith("Measured as resident set. Now 212,000,000 bytes.")
    old = panel_of(CACHE, MemoryFigures(1, 2, 3), 0.3, 1.0, 1.0, 1024, ())
    assert old.value("memory.process") == UNMEASURED


def test_what_was_not_measured_is_a_dash_and_not_a_zero():
    panel = measured(ttft_s=0.0, prefill_tokens_per_s=0.0, decode_tokens_per_s=0.0)
    assert {panel.value(f"speed.{key}") for key in ("decode", "prefill", "ttft")} == {UNMEASURED}


def test_an_empty_panel_shows_what_is_known_and_dashes():
    panel = empty_panel(MODEL, ChatOptions())
    known = {row.key: row.value for row in panel.rows if row.value != UNMEASURED}
    assert known == {"cache.layers": "24 of 24", "context.used": "– of 1,024 tokens"}
    assert panel.headline == "Nothing cached yet"
    assert (panel.used_share, panel.allocated_share, panel.fp16_allocated_share, panel.context_share) == (0, 0, 0, 0)
    assert panel.speeds_text == "Recent decode speed: not measured yet."


def test_an_empty_panel_for_fp16_promises_no_int4_layer():
    panel = empty_panel(MODEL, ChatOptions(cache_mode=CacheMode.FP16))
    assert panel.value("cache.layers") == "0 of 24"
    assert panel.mode_line.endswith("(bfloat16)")


def test_without_a_model_every_figure_is_a_dash():
    panel = empty_panel(None, ChatOptions())
    assert {row.value for row in panel.rows} == {UNMEASURED}
    assert panel.headline == "No model open"


def test_prefill_is_said_beside_the_figures():
    panel = prefill_panel(measured(), Prefill("r", done_tokens=256, total_tokens=512, reused_tokens=300))
    assert panel == replace(measured(), status="Reading 256 of 512 new tokens, 300 reused")
    panel = prefill_panel(measured(), Prefill("r", 0, 512, reused_tokens=300, disk_tokens=300))
    assert panel.status == "Reading 0 of 512 new tokens, 300 continued from disk"


def test_a_reply_asked_for_opens_the_speeds_and_keeps_the_same_cache():
    panel = asked_panel(measured(), MODEL, ChatOptions())
    assert {panel.value(f"speed.{key}") for key in ("decode", "prefill", "ttft")} == {UNMEASURED}
    assert panel.speeds == ()
    assert panel.value("cache.allocated") == "3.69 MB"
    assert panel.value("context.used") == "412 of 1,024 tokens (40 %)"


@pytest.mark.parametrize("options", [ChatOptions(cache_mode=CacheMode.FP16), ChatOptions(group_size=64)])
def test_another_cache_asked_for_begins_with_an_empty_panel(options):
    assert asked_panel(measured(), MODEL, options) == empty_panel(MODEL, options)


def test_an_fp16_cache_is_the_same_whatever_the_group_size():
    options = ChatOptions(cache_mode=CacheMode.FP16, group_size=64)
    assert asked_panel(measured(FP16), MODEL, options).value("cache.allocated") == "13.1 MB"


def test_tooltips_claim_what_is_so():
    assert "not by a setting" not in EXPLANATIONS["cache.path"]
    assert "config.json" in EXPLANATIONS["context.used"]
    assert "16 bits a value" in EXPLANATIONS["cache.fp16"]
    assert "waiting behind another request is not counted" in EXPLANATIONS["speed.ttft"]


def test_bars_are_shares_of_the_longer_one():
    panel = measured()
    assert panel.fp16_allocated_share == 1.0
    assert panel.allocated_share == pytest.approx(0.28125)
    assert panel.used_share < panel.allocated_share
    assert panel.fp16_used_share == pytest.approx(10_547_200 / 13_107_200)


def test_the_context_meter_is_never_more_than_full():
    assert measured(replace(CACHE, tokens=2000)).context_share == 1.0


def test_the_sparkline_has_words():
    assert measured().speeds_text == (
        "Recent decode speed: now 41.2 tokens/s, lowest 38.0 tokens/s, highest 42.0 tokens/s over the last 3 readings."
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.00 KB"),
        (9_996, "10.0 KB"),
        (99_950, "100 KB"),
        (999_499, "999 KB"),
        (999_500, "1.00 MB"),
        (3_686_400, "3.69 MB"),
        (12_345_678_901, "12.3 GB"),
        (5_000_000_000_000_000, "5000 TB"),
    ],
)
def test_bytes_keep_three_digits(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "–"),
        (0.0042, "4.2 ms"),
        (0.341, "341 ms"),
        (0.9996, "1.00 s"),
        (2.414, "2.41 s"),
        (59.999, "1 min 0 s"),
        (135.2, "2 min 15 s"),
    ],
)
def test_seconds_change_unit_where_people_do(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("speed", "text"), [(0.0, "–"), (0.42, "0.4 tokens/s"), (41.23, "41.2 tokens/s"), (1520.3, "1,520 tokens/s")]
)
def test_speeds_are_tokens_a_second(speed, text):
    assert format_speed(speed) == text


@pytest.mark.parametrize(
    ("layers", "text"), [((3,), "Layer 3"), ((2, 0, 1), "Layers 0–2"), ((0, 2, 3, 9), "Layers 0, 2–3, 9")]
)
def test_runs_of_layers_are_folded(layers, text):
    assert format_layers(layers) == text
