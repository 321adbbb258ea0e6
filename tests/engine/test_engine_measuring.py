"""What every engine must do beside replies: measure quality and count tokens."""

from pathlib import Path

from app.chat.quality import Effort, TextKind, TextSource, json_text, reports_from_json
from app.engine.child import EngineChild
from app.engine.protocol import (
    Cancel,
    Counted,
    CountTokens,
    Failed,
    Measure,
    Measured,
    Measuring,
)
from tests.engine.child_chat import Chat, finished
from tests.engine.engine_desk import EngineDesk, OnFakeEngine, OnMlxEngine

SMALL = Effort(windows=2, context_tokens=64)


class MeasuringContract(EngineDesk):
    # Quality

    def test_measuring_tells_what_is_done_then_the_report(self, shared: EngineChild, folder: Path) -> None:
        *steps, measured = shared.ask(Measure("m", TextSource(), SMALL))
        assert isinstance(measured, Measured)
        assert all(isinstance(step, Measuring) and step.step for step in steps)
        fractions = [step.fraction for step in steps if isinstance(step, Measuring)]
        assert fractions == sorted(fractions)
        assert fractions[0] == 0 < fractions[-1] < 1
        report = measured.report
        assert report.model.path == str(folder)
        assert report.text_name == "bundled prose"
        assert (report.windows, report.context_tokens, report.scored_tokens) == (2, 64, 32)
        assert reports_from_json(json_text([report])) == (report,)
        variants = {variant.name: variant for variant in report.variants}
        assert variants["fp16"].kl_nats.high == 0
        assert variants["ours g32"].kl_nats.low > 0
        deployed = {name: v.deployed_group_size for name, v in variants.items() if v.deployed_group_size}
        assert deployed == {"ours g32": 32, "ours g64": 64}
        assert all(len(variant.windows) == 2 for variant in report.variants)

    def test_a_text_of_ones_own_is_measured_and_one_too_short_says_so(
        self, shared: EngineChild, tmp_path: Path
    ) -> None:
        text = tmp_path / "own.txt"
        source = TextSource(TextKind.FILE, str(text))
        text.write_text("Once upon a time there was a fox. " * 40)
        measured = shared.ask(Measure("m", source, SMALL))[-1]
        assert isinstance(measured, Measured)
        assert measured.report.text_name == "own.txt"
        text.write_text("Too short.")
        failed = shared.ask(Measure("n", source, SMALL))[-1]
        assert isinstance(failed, Failed)
        assert "own.txt has" in failed.message
        assert "longer text" in failed.hint
        failed = shared.ask(Measure("o", TextSource(TextKind.FILE, str(tmp_path / "none.txt")), SMALL))[-1]
        assert isinstance(failed, Failed)
        assert "cannot be read" in failed.message

    def test_measuring_is_stopped_and_conversations_go_on_where_they_were(self, chat: Chat) -> None:
        first = finished(chat.say("Tell me a story about a fox.")).figures
        chat.child.send(Measure("m", TextSource(TextKind.CHAT), Effort(2, 1024)))
        chat.child.send(Cancel("m"))
        *steps, failed = chat.child.answer("m")
        assert isinstance(failed, Failed)
        assert (failed.message, failed.hint, failed.detail) == ("Measuring was stopped.", "", "")
        assert len(steps) < 15
        assert finished(chat.say("And then?")).figures.reused_tokens >= first.prompt_tokens

    def test_a_reply_waits_for_what_is_measured(self, chat: Chat) -> None:
        request = chat.request("Hello.")
        chat.child.send(Measure("m", TextSource(), SMALL))
        chat.child.send(request)
        assert isinstance(chat.child.answer("m")[-1], Measured)
        assert finished(chat.child.answer(request.request_id)).token_ids

    def test_measuring_before_load_fails_with_a_hint(self, fresh: EngineChild) -> None:
        (failed,) = fresh.ask(Measure("m", TextSource(), SMALL))
        assert isinstance(failed, Failed)
        assert failed.hint
        assert fresh.quit() == 0

    # Counting tokens

    def test_tokens_of_a_text_are_counted(self, shared: EngineChild) -> None:
        (none,) = shared.ask(CountTokens("c", ""))
        (few,) = shared.ask(CountTokens("d", "a small fox"))
        (many,) = shared.ask(CountTokens("e", "a small fox\n" * 50))
        assert isinstance(none, Counted)
        assert isinstance(few, Counted)
        assert isinstance(many, Counted)
        assert (none.request_id, none.tokens) == ("c", 0)
        assert 0 < few.tokens < many.tokens

    def test_counting_before_load_fails_with_a_hint(self, fresh: EngineChild) -> None:
        (failed,) = fresh.ask(CountTokens("c", "a small fox"))
        assert isinstance(failed, Failed)
        assert failed.hint
        assert fresh.quit() == 0


class TestFakeEngine(MeasuringContract, OnFakeEngine):
    pass


class TestMlxEngine(MeasuringContract, OnMlxEngine):
    pass
