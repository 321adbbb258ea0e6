from dataclasses import replace

import pytest
from PySide6.QtCore import QObject, Signal

from app.chat.comparison import compare_replies
from app.chat.figures import CacheFigures, MemoryFigures, ReplyFigures
from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions, Sampling
from app.engine.protocol import Cancel, Failed, Finished, Generate, Prefill, Progress, Token
from app.viewmodels.compare_run import CompareRun
from app.viewmodels.compare_table import (
    CompareResult,
    compare_rows,
    conditions_text,
    markdown_table,
    parting_text,
    rounds_text,
    summary_text,
    unmeasured_rows,
)

PROMPT = (Message(Role.USER, "Tell me a story"),)
MEMORY = MemoryFigures(48_000_000, 70_000_000, 0)
FP16 = CacheFigures(CacheMode.FP16, 32, "cpu", 400, 10_000_000, 12_800_000, 10_000_000, 12_800_000, 0, 24)
INT4 = replace(FP16, mode=CacheMode.INT4, used_bytes=2_812_500, allocated_bytes=3_600_000, layers_int4=24)


def figures(cache: CacheFigures, **changes) -> ReplyFigures:
    values = {
        "model": "Starter",
        "started_at": "2026-01-01T00:00:00+00:00",
        "requested_mode": cache.mode,
        "cache": cache,
        "memory": MEMORY,
        "prompt_tokens": 300,
        "reused_tokens": 0,
        "prefilled_tokens": 300,
        "generated_tokens": 4,
        "ttft_s": 0.2,
        "prefill_tokens_per_s": 1500.0,
        "decode_tokens_per_s": 40.0,
        "elapsed_s": 3.0,
        "context_limit_tokens": 1024,
        "seed": 7,
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": 0.0,
        "max_tokens": 512,
        "finish_reason": "stop",
    }
    return ReplyFigures(**(values | changes))


def reply(request_id: str, cache: CacheFigures, text: str, ids: tuple[int, ...], **changes) -> Finished:
    return Finished(request_id, text, ids, figures(cache, generated_tokens=len(ids), **changes))


def result_of(fp16: Finished, int4: Finished) -> CompareResult:
    return CompareResult(fp16, int4, compare_replies(fp16.token_ids, int4.token_ids, fp16.text, int4.text))


class ScriptedEngine(QObject):
    event_received = Signal(object)
    died = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.sent = []

    def send(self, request) -> None:
        self.sent.append(request)

    def new_request_id(self) -> str:
        return f"r{sum(isinstance(r, Generate) for r in self.sent) + 1}"


class Heard:
    def __init__(self, run: CompareRun) -> None:
        self.texts: list[tuple[CacheMode, str]] = []
        self.columns: list[CacheMode] = []
        self.status: list[str] = []
        self.ends: list[object] = []
        run.column_changed.connect(lambda mode, text: self.texts.append((mode, text)))
        run.column_finished.connect(lambda mode, reply: self.columns.append(mode))
        run.status_changed.connect(self.status.append)
        run.finished.connect(self.ends.append)
        run.failed.connect(lambda message, hint: self.ends.append((message, hint)))
        run.cancelled.connect(lambda: self.ends.append("cancelled"))


@pytest.fixture
def engine(qapp):
    return ScriptedEngine()


@pytest.fixture
def run(engine):
    return CompareRun(engine)


@pytest.fixture
def heard(run):
    return Heard(run)


def test_both_modes_are_asked_the_same_one_after_the_other(engine, run, heard):
    run.start(PROMPT, ChatOptions(group_size=64, system_prompt="Be brief."), greedy=True)
    assert len(engine.sent) == 1
    engine.event_received.emit(reply("r1", FP16, "Once", (1, 2)))
    first, second = engine.sent
    assert (first.options.cache_mode, second.options.cache_mode) == (CacheMode.FP16, CacheMode.INT4)
    assert replace(first.options, cache_mode=CacheMode.INT4) == second.options
    assert first.messages == second.messages == PROMPT
    assert (first.reuse_cache, second.reuse_cache) == (False, False)
    assert first.chat_id != second.chat_id
    assert first.options.group_size == 64
    assert first.options.sampling.temperature == 0.0


def test_a_seed_left_to_chance_is_drawn_once_for_both(engine, run):
    run.start(PROMPT, ChatOptions(), greedy=False)
    engine.event_received.emit(reply("r1", FP16, "Once", (1, 2)))
    first, second = (request.options.sampling for request in engine.sent)
    assert first.seed is not None
    assert first.seed == second.seed
    assert first.temperature == Sampling().temperature


def test_a_chosen_seed_is_kept(engine, run):
    run.start(PROMPT, ChatOptions(sampling=Sampling(seed=0)), greedy=False)
    assert engine.sent[0].options.sampling.seed == 0


def test_texts_stream_into_their_columns_and_the_result_compares_them(engine, run, heard):
    run.start(PROMPT, ChatOptions(), greedy=True)
    engine.event_received.emit(Prefill("r1", 100, 300, 0))
    engine.event_received.emit(Token("r1", "Once ", (1,)))
    engine.event_received.emit(Progress("r1", FP16, MEMORY, 2, 0.2, 1500.0, 40.0))
    engine.event_received.emit(Token("r1", "upon", (2,)))
    engine.event_received.emit(reply("r1", FP16, "Once upon", (1, 2)))
    engine.event_received.emit(Token("r2", "Once a", (1, 3)))
    engine.event_received.emit(reply("r2", INT4, "Once a", (1, 3)))
    assert heard.texts == [
        (CacheMode.FP16, "Once "),
        (CacheMode.FP16, "Once upon"),
        (CacheMode.INT4, "Once a"),
    ]
    assert heard.columns == [CacheMode.FP16, CacheMode.INT4]
    assert "fp16: reading 100 of 300 tokens" in heard.status
    assert "fp16: 2 tokens written, 40.0 tokens/s" in heard.status
    assert heard.status[-1] == ""
    (result,) = heard.ends
    assert result.comparison.first_different_token == 1
    assert result.comparison.first_different_char == 5
    assert result.comparison.agreement == 0.5
    assert not run.is_running


def test_rounds_take_turns_in_who_is_first_and_only_the_first_is_shown(engine, run, heard):
    run.start(PROMPT, ChatOptions(), greedy=False, rounds=3)
    modes = []
    for number in range(6):
        request = engine.sent[-1]
        modes.append(request.options.cache_mode)
        cache = FP16 if modes[-1] is CacheMode.FP16 else INT4
        engine.event_received.emit(Token(request.request_id, f"{number}", (number,)))
        engine.event_received.emit(reply(request.request_id, cache, f"{number}", (number,), ttft_s=0.1 * (1 + number)))
    fp16, int4 = CacheMode.FP16, CacheMode.INT4
    assert modes == [fp16, int4, int4, fp16, fp16, int4]
    assert len({request.options.sampling.seed for request in engine.sent}) == 1
    assert heard.texts == [(fp16, "0"), (int4, "1")]
    assert heard.columns == [fp16, int4]
    assert "Round 2 of 3, int4: waiting for the engine" in heard.status
    (result,) = heard.ends
    assert (result.fp16.text, result.int4.text) == ("0", "1")
    assert [round(one.fp16.ttft_s, 1) for one in result.rounds] == [0.1, 0.4, 0.5]
    assert [round(one.int4.ttft_s, 1) for one in result.rounds] == [0.2, 0.3, 0.6]
    rows = {row.label: row for row in compare_rows(result)}
    assert rows["Time to first token"].fp16 == "400 ms (100 to 500)"
    assert rounds_text(result) == "Figures are medians of 3 rounds, least and most in brackets."


def test_a_run_of_rounds_can_be_stopped_in_any(engine, run, heard):
    run.start(PROMPT, ChatOptions(), greedy=True, rounds=2)
    for number, cache in enumerate((FP16, INT4)):
        engine.event_received.emit(reply(f"r{number + 1}", cache, "a", (1,)))
    run.cancel()
    engine.event_received.emit(reply("r3", INT4, "a", (1,), finish_reason="cancelled"))
    assert heard.ends == ["cancelled"]
    assert not run.is_running


def test_events_of_other_requests_are_not_ours(engine, run, heard):
    run.start(PROMPT, ChatOptions(), greedy=True)
    engine.event_received.emit(Token("chat-9", "Not ours", (1,)))
    engine.event_received.emit(reply("chat-9", FP16, "Not ours", (1,)))
    engine.event_received.emit(Failed("", "A line could not be read."))
    assert heard.texts == heard.columns == heard.ends == []
    assert run.is_running


def test_a_final_text_the_stream_did_not_show_is_shown(engine, run, heard):
    run.start(PROMPT, ChatOptions(), greedy=True)
    engine.event_received.emit(Token("r1", "On", (1,)))
    engine.event_received.emit(reply("r1", FP16, "Once", (1, 2)))
    assert heard.texts[-1] == (CacheMode.FP16, "Once")


@pytest.mark.parametrize("finish_reason", ["cancelled", "stop"])
def test_cancel_stops_the_request_and_never_starts_the_second(engine, run, heard, finish_reason):
    run.start(PROMPT, ChatOptions(), greedy=True)
    run.cancel()
    run.cancel()
    assert engine.sent[1:] == [Cancel("r1")]
    assert run.is_running
    engine.event_received.emit(reply("r1", FP16, "Onc", (1,), finish_reason=finish_reason))
    assert heard.ends == ["cancelled"]
    assert len(engine.sent) == 2
    assert not run.is_running


def test_a_reply_cancelled_by_someone_else_is_not_compared(engine, run, heard):
    run.start(PROMPT, ChatOptions(), greedy=True)
    engine.event_received.emit(reply("r1", FP16, "Onc", (1,), finish_reason="cancelled"))
    assert heard.ends == ["cancelled"]


def test_a_failure_is_told_as_the_engine_words_it(engine, run, heard):
    run.start(PROMPT, ChatOptions(), greedy=True)
    engine.event_received.emit(reply("r1", FP16, "Once", (1,)))
    engine.event_received.emit(Failed("r2", "The prompt is too long.", "Shorten it."))
    assert heard.ends == [("The prompt is too long.", "Shorten it.")]
    assert not run.is_running


def test_a_dead_engine_ends_the_run_once(engine, run, heard):
    engine.died.emit("The engine was killed.", "")
    assert heard.ends == []
    run.start(PROMPT, ChatOptions(), greedy=True)
    engine.died.emit("The engine was killed.", "last words")
    engine.died.emit("The engine was killed.", "last words")
    assert [message for message, _ in heard.ends] == ["The engine was killed."]
    assert not run.is_running


def test_a_second_start_waits_for_the_first_to_end(engine, run, heard):
    run.start(PROMPT, ChatOptions(), greedy=True)
    run.start(PROMPT, ChatOptions(), greedy=True)
    assert len(engine.sent) == 1
    engine.event_received.emit(Failed("r1", "No.", ""))
    run.start(PROMPT, ChatOptions(), greedy=True)
    assert engine.sent[-1].options.cache_mode is CacheMode.FP16


def test_the_table_shows_both_and_what_int4_changes():
    slower = {"decode_tokens_per_s": 36.0, "ttft_s": 0.25, "memory": replace(MEMORY, peak_bytes=61_000_000)}
    result = result_of(reply("a", FP16, "abcd", (1, 2, 3, 4)), reply("b", INT4, "abX", (1, 2, 9), **slower))
    rows = {row.label: (row.fp16, row.int4, row.difference) for row in compare_rows(result)}
    assert rows == {
        "Decode speed": ("40.0 tokens/s", "36.0 tokens/s", "−10.0 %"),
        "Prefill speed": ("1,500 tokens/s", "1,500 tokens/s", "the same"),
        "Time to first token": ("200 ms", "250 ms", "+25.0 %"),
        "KV cache allocated": ("12.8 MB", "3.60 MB", "3.56x smaller"),
        "KV cache used": ("10.0 MB", "2.81 MB", "3.56x smaller"),
        "Ratio to fp16": ("1.00x", "3.56x", ""),
        "Peak memory": ("70.0 MB", "61.0 MB", "−9.00 MB"),
        "Layers in int4": ("0 of 24", "24 of 24", ""),
        "Attention path": ("cpu", "cpu", ""),
        "Prompt": ("300 tokens", "300 tokens", ""),
        "Reply": ("4 tokens", "3 tokens", "−1"),
        "Ended by": ("the model ended", "the model ended", ""),
        "Texts part": ("", "", "after 2 equal tokens"),
        "Agreement": ("", "", "50.0 %"),
    }
    assert all(row.tooltip for row in compare_rows(result))


def test_caches_of_unequal_length_are_compared_by_the_token():
    longer = replace(FP16, tokens=800, used_bytes=20_000_000, fp16_used_bytes=20_000_000)
    rows = {
        row.label: row for row in compare_rows(result_of(reply("a", longer, "a", (1,)), reply("b", INT4, "a", (1,))))
    }
    assert rows["KV cache used"].difference == "3.56x smaller a token"
    assert "bytes a token are compared" in rows["KV cache used"].tooltip
    assert rows["KV cache allocated"].difference == "3.56x smaller"


def test_unmeasured_figures_have_no_difference():
    fp16 = reply("a", FP16, "a", (1,), decode_tokens_per_s=0.0)
    int4 = reply("b", replace(INT4, allocated_bytes=0), "a", (1,))
    rows = {row.label: row for row in compare_rows(result_of(fp16, int4))}
    assert (rows["Decode speed"].fp16, rows["Decode speed"].difference) == ("–", "–")
    assert rows["KV cache allocated"].difference == "–"
    assert rows["Texts part"].difference == "never"


def test_the_table_before_a_run_has_the_same_rows():
    result = result_of(reply("a", FP16, "a", (1,)), reply("b", INT4, "a", (1,)))
    assert [row.label for row in unmeasured_rows()] == [row.label for row in compare_rows(result)]
    assert {row.difference for row in unmeasured_rows()} == {"–"}


def test_markdown_cells_cannot_break_the_table():
    result = result_of(reply("a", replace(FP16, path="cpu | plain\nops"), "a", (1,)), reply("b", INT4, "a", (1,)))
    lines = markdown_table(compare_rows(result)).splitlines()
    assert lines[0] == "| Figure | fp16 | int4 | Difference |"
    assert lines[1] == "| --- | ---: | ---: | ---: |"
    assert len(lines) == 2 + len(unmeasured_rows())
    assert "| Attention path | cpu \\| plain ops | cpu |  |" in lines


@pytest.mark.parametrize(
    ("fp16", "int4", "words"),
    [
        ("abc", "abc", "the same, to the last character"),
        ("abc", "abX", "the same for 2 characters"),
        ("a", "abX", "1 character, then fp16 ends"),
        ("abc", "", "0 characters, then int4 ends"),
    ],
)
def test_where_texts_part_is_said_in_words(fp16, int4, words):
    assert words in parting_text(result_of(reply("a", FP16, fp16, (1,)), reply("b", INT4, int4, (2,))))


def test_conditions_name_what_decides_the_replies():
    assert conditions_text(ChatOptions(), greedy=True).startswith("Always the likeliest token; at most 512 tokens")
    assert "seed 3" in conditions_text(ChatOptions(sampling=Sampling(seed=3)), greedy=False)
    assert "one seed drawn for both" in conditions_text(ChatOptions(), greedy=False)


def test_a_reply_is_summed_up_without_what_was_not_measured():
    assert summary_text(figures(FP16)) == "4 tokens, 40.0 tokens/s, KV cache 12.8 MB"
    assert summary_text(figures(FP16, decode_tokens_per_s=0.0)) == "4 tokens, KV cache 12.8 MB"
