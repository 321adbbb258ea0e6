from dataclasses import replace

import pytest

from app.chat.options import CacheMode
from app.viewmodels import model_rows
from app.viewmodels.downloads import DownloadState, DownloadStatus
from app.viewmodels.model_rows import Action, ModelRow
from tests.model_parts import needs

REPO = "mlx-community/Qwen3-4B-4bit"
ABSENT = ModelRow(REPO, "Qwen3 4B", REPO, licence="apache-2.0", context_tokens=40_960, needs=needs())
HERE = replace(ABSENT, folder="/models/q", place="LM Studio")
STATES = {status: DownloadState(status, 500, 1000) for status in DownloadStatus}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ABSENT, (Action.GET,)),
        (HERE, (Action.OPEN,)),
        (replace(HERE, is_open=True), ()),
        (replace(HERE, is_opening=True), ()),
        (replace(HERE, missing="config.json is missing"), (Action.GET,)),
        (replace(HERE, repo="", missing="config.json is missing"), ()),
        (replace(ABSENT, download=STATES[DownloadStatus.WAITING]), (Action.PAUSE, Action.CANCEL)),
        (replace(ABSENT, download=STATES[DownloadStatus.RUNNING]), (Action.PAUSE, Action.CANCEL)),
        (replace(ABSENT, download=STATES[DownloadStatus.PAUSED]), (Action.RESUME, Action.CANCEL)),
        (replace(ABSENT, download=STATES[DownloadStatus.FAILED]), (Action.RESUME, Action.CANCEL)),
        (replace(HERE, download=STATES[DownloadStatus.DONE]), (Action.OPEN,)),
    ],
)
def test_every_state_offers_what_can_be_done_in_it(row, expected):
    assert model_rows.actions(row, can_fetch=True) == expected
    assert model_rows.actions(row, can_fetch=False) == (expected if expected == (Action.OPEN,) else ())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ABSENT, "can be fetched"),
        (HERE, "here"),
        (replace(HERE, is_open=True), "open"),
        (replace(HERE, is_opening=True), "opening"),
        (replace(HERE, missing="x"), "incomplete"),
        (replace(ABSENT, download=STATES[DownloadStatus.RUNNING]), "fetching, 50%"),
        (replace(ABSENT, download=DownloadState(DownloadStatus.RUNNING)), "fetching"),
        (replace(ABSENT, download=STATES[DownloadStatus.WAITING]), "waiting"),
        (replace(ABSENT, download=STATES[DownloadStatus.PAUSED]), "paused"),
        (replace(ABSENT, download=STATES[DownloadStatus.FAILED]), "failed"),
    ],
)
def test_the_state_is_said_in_a_few_words(row, expected):
    assert model_rows.state_text(row) == expected


def test_the_fit_is_that_of_a_chat_of_4096_tokens_and_says_how_it_is_made():
    tight = replace(ABSENT, needs=needs(2_000_000_000 + 100_000_000 + 4096 * (28_125 + 2_000)))
    assert [model_rows.fit_text(row, 32) for row in (ABSENT, tight)] == ["yes", "int4 only"]
    assert model_rows.fit_text(replace(ABSENT, needs=needs(2_100_000_000)), 32) == "no"
    assert model_rows.fit_text(replace(ABSENT, needs=None), 32) == "–"
    assert model_rows.fit_text(replace(ABSENT, needs=None, problem="No such architecture."), 32) == "unknown"
    assert "4,096 tokens" in model_rows.fit_tooltip(tight)
    assert "memory of the test" in model_rows.fit_tooltip(tight)


def test_the_longest_chat_is_shown_for_both_modes_with_its_parts():
    row = replace(ABSENT, needs=needs(4_100_000_000))
    assert model_rows.longest_text(row, CacheMode.INT4, 32) == "40,960"
    assert model_rows.longest_text(row, CacheMode.FP16, 32) == f"{2_000_000_000 // 101_000:,}"
    tooltip = model_rows.longest_tooltip(row, CacheMode.FP16, 32)
    for said in ("2.00 GB of weights", "1.98 GB of KV cache", "working set, of 4.10 GB", "estimated"):
        assert said in tooltip
    assert model_rows.longest_text(replace(row, needs=needs(1)), CacheMode.INT4, 32) == "none"
    assert model_rows.longest_text(replace(row, needs=None), CacheMode.INT4, 32) == "–"


@pytest.mark.parametrize(
    ("budget_bytes", "expected"),
    [
        (
            8_000_000_000,
            "Fits: beside 2.00 GB of weights there is room for all 40,960 tokens that it reads, in int4 and",
        ),
        (4_100_000_000, "Fits: beside 2.00 GB of weights there is room for 40,960 tokens in int4, 19,801 in fp16, of"),
        (
            2_300_000_000,
            "Fits in int4: beside 2.00 GB of weights there is room for 6,639 tokens in int4, 1,980 in fp16",
        ),
        (2_100_090_000, "Does not fit: beside 2.00 GB of weights there is room for 2 tokens in int4, none in fp16, of"),
        (2_100_000_000, "Does not fit: no context fits beside 2.00 GB of weights in 2.10 GB"),
        (1_000_000_000, "Does not fit: its weights take 2.00 GB of 1.00 GB (memory of the test)."),
    ],
)
def test_the_fit_is_said_in_a_sentence(budget_bytes, expected):
    assert model_rows.fit_sentence(replace(ABSENT, needs=needs(budget_bytes)), 32).startswith(expected)


def test_what_the_model_is_comes_from_its_graph():
    sentence = model_rows.needs_sentence(ABSENT, 64)
    assert sentence == (
        "4.02B parameters (qwen3), 20 layers with a cache, all in int4; a token of context takes 26.5 KB in int4 and "
        "100 KB in fp16."
    )
    assert "12 of them in int4" in model_rows.needs_sentence(replace(ABSENT, needs=needs(int4_layers=12)), 64)
    assert "27.8M" in model_rows.needs_sentence(replace(ABSENT, needs=needs(parameters=27_800_000)), 64)
    assert model_rows.needs_sentence(replace(ABSENT, needs=None, problem="No."), 64) == "No."


def test_the_size_is_the_hubs_where_it_said_and_computed_before():
    assert model_rows.size_text(ABSENT) == "2.00 GB"
    assert "tokenizer and the like come to it" in model_rows.size_tooltip(ABSENT)
    assert model_rows.size_text(replace(ABSENT, other_bytes=17_000_000)) == "2.02 GB"
    fetched = replace(ABSENT, download=DownloadState(DownloadStatus.RUNNING, 1, 2_100_000_000))
    assert model_rows.size_text(fetched) == "2.10 GB"
    assert "as the hub says" in model_rows.size_tooltip(fetched)
    assert model_rows.size_text(replace(ABSENT, needs=None)) == "–"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (DownloadState(), ""),
        (STATES[DownloadStatus.DONE], ""),
        (
            DownloadState(DownloadStatus.RUNNING, 1_240_000_000, 2_270_000_000, 23_400_000.0, 44.2),
            "1.24 GB of 2.27 GB, 23.4 MB/s, 44 s left",
        ),
        (DownloadState(DownloadStatus.RUNNING, 5_000, 10_000, 1_000.0, 0.2), "5.00 KB of 10.0 KB, 1.00 KB/s, 1 s left"),
        (
            DownloadState(DownloadStatus.RUNNING, 5_000, 10_000, 1.0, 5_000.0),
            "5.00 KB of 10.0 KB, 1 byte/s, 1 h 24 min left",
        ),
        (DownloadState(DownloadStatus.RUNNING, 5_000, 10_000, None, 61.0), "5.00 KB of 10.0 KB, 2 min left"),
        (DownloadState(DownloadStatus.RUNNING, note="Asking the hub"), "Asking the hub"),
        (DownloadState(DownloadStatus.PAUSED, 5_000, 10_000), "5.00 KB of 10.0 KB, paused"),
        (DownloadState(DownloadStatus.WAITING), "waiting"),
    ],
)
def test_a_download_is_told_in_bytes_speed_and_time_left(state, expected):
    assert model_rows.progress_text(state) == expected


def test_what_keeps_a_model_from_being_opened_or_fetched_is_said():
    failed = DownloadState(DownloadStatus.FAILED, error="The hub is out of reach.", hint="Try again.")
    assert model_rows.state_tooltip(replace(ABSENT, download=failed)) == "The hub is out of reach. Try again."
    assert model_rows.state_tooltip(replace(HERE, missing="a.b is missing")) == "It cannot be opened: a.b is missing."
    assert "/models/q (LM Studio)" in model_rows.state_tooltip(HERE)
    assert "other programs share" in model_rows.state_tooltip(ABSENT)


def test_the_starter_comes_first_then_what_is_here():
    starter = ModelRow("", "Starter", folder="")
    assert model_rows.order([ABSENT, HERE, starter]) == [starter, HERE, ABSENT]
