import pytest

from app.chat.quality import MOST_PASSES, Effort, TextKind, TextSource
from app.engine.protocol import Cancel, Failed, Measure, Measured, Measuring
from app.viewmodels.quality_run import USUAL, QualityRun, RunProgress, effort_choices, remaining_text
from tests.chat_parts import ScriptedEngine
from tests.quality_parts import REPORT

TEXT = TextSource(TextKind.CHAT)


class Heard:
    def __init__(self, run: QualityRun) -> None:
        self.progress: list[RunProgress] = []
        self.ends: list[object] = []
        run.progressed.connect(self.progress.append)
        run.finished.connect(self.ends.append)
        run.failed.connect(lambda *failure: self.ends.append(failure))
        run.cancelled.connect(lambda: self.ends.append("cancelled"))


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def engine(qapp):
    return ScriptedEngine()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run(engine, clock):
    return QualityRun(engine, clock=clock)


@pytest.fixture
def heard(run):
    return Heard(run)


def test_a_run_asks_once_and_ends_with_the_report(engine, run, heard):
    run.start(TEXT, Effort(2, 512))
    run.start(TEXT, Effort(5, 512))
    assert engine.sent == [Measure("r1", TEXT, Effort(2, 512))]
    assert run.is_running
    assert heard.progress == [RunProgress(-1.0, "Waiting for the engine")]
    engine.event_received.emit(Measuring("r1", 0.25, "window 1 of 2, fp16"))
    assert heard.progress[-1].step == "Window 1 of 2, fp16"
    engine.event_received.emit(Measured("r1", REPORT))
    assert heard.ends == [REPORT]
    assert not run.is_running


def test_what_is_left_is_told_once_it_can_be_known(engine, run, heard, clock):
    run.start(TEXT, Effort())
    clock.now_s += 500  # the engine was busy with a reply
    for fraction, after_s in ((0.0, 0), (0.01, 1), (0.25, 49)):
        clock.now_s += after_s
        engine.event_received.emit(Measuring("r1", fraction, "x"))
    assert [progress.remaining for progress in heard.progress] == ["", "", "", "About 2 minutes left"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "A few seconds left"),
        (42, "About 40 seconds left"),
        (56, "About 1 minute left"),
        (1000, "About 17 minutes left"),
    ],
)
def test_the_time_left_is_no_more_exact_than_it_can_be(seconds, words):
    assert remaining_text(seconds) == words


def test_a_run_is_cancelled_once_and_the_engines_answer_ends_it(engine, run, heard):
    run.cancel()
    run.start(TEXT, Effort())
    run.cancel()
    run.cancel()
    assert engine.sent_of(Cancel) == [Cancel("r1")]
    engine.event_received.emit(Measuring("r1", 0.5, "one more piece of work"))
    assert heard.progress[-1].step == "Stopping"
    assert run.is_running
    engine.event_received.emit(Failed("r1", "Measuring was stopped."))
    assert heard.ends == ["cancelled"]


def test_a_cancel_that_comes_too_late_keeps_the_report(engine, run, heard):
    run.start(TEXT, Effort())
    run.cancel()
    engine.event_received.emit(Measured("r1", REPORT))
    assert heard.ends == [REPORT]


def test_a_failure_and_a_dead_engine_are_told_with_their_reason_and_another_run_is_possible(engine, run, heard):
    run.start(TEXT, Effort())
    engine.event_received.emit(Failed("r1", "The text is too short.", "Choose another.", "trace"))
    run.start(TEXT, Effort())
    engine.died.emit("The engine stopped: killed.", "its last words")
    engine.died.emit("Again.", "")
    assert heard.ends == [
        ("The text is too short.", "Choose another.", "trace"),
        ("The engine stopped: killed.", "Restart the engine, then measure once more.", "its last words"),
    ]
    run.start(TEXT, Effort())
    assert [request.request_id for request in engine.sent] == ["r1", "r2", "r3"]


def test_others_events_are_not_heard(engine, run, heard):
    engine.event_received.emit(Measured("r9", REPORT))
    run.start(TEXT, Effort())
    engine.event_received.emit(Measured("r9", REPORT))
    engine.event_received.emit(Failed("", "An unreadable line."))
    assert heard.ends == []
    assert run.is_running


def test_efforts_grow_and_fit_the_model():
    choices = effort_choices(4096)
    read = [choice.effort.read_tokens for choice in choices]
    assert read == sorted(read)
    assert choices[USUAL].effort == Effort()
    assert all(choice.effort.windows > 1 for choice in choices), "one window has no spread"
    expected = f"3 windows of 1,024 tokens, each read up to {MOST_PASSES} times: about 52,000 tokens in all."
    assert choices[USUAL].cost == expected
    assert {choice.effort.context_tokens for choice in effort_choices(300)} == {300}
