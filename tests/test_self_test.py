"""The self-test's own parts; the whole of it runs in the frozen program, tests/frozen."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from app.chat.options import CacheMode
from app.engine.child import EngineChild
from app.engine.command import engine_command
from app.engine.protocol import Load, Ready
from app.self_test import BrokenError, check_reply, run
from tests.engine.child_chat import GREEDY, Chat, finished


def test_a_step_that_breaks_is_told_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def breaks() -> str:
        raise BrokenError("the wheel is off")

    def defect() -> str:
        return str(1 // 0)

    assert run([("first", breaks), ("second", defect), ("third", lambda: "fine")]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert re.fullmatch(r"BROKEN +first +\(the wheel is off, \d+\.\d s\)", lines[0])
    assert lines[1].startswith("BROKEN  second")
    assert re.fullmatch(r"ok +third +\(fine, \d+\.\d s\)", lines[2])
    assert lines[3] == "2 of 3 steps broke."
    assert "ZeroDivisionError" in err
    assert "BrokenError" not in err


def test_all_well_is_exit_code_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([("only", lambda: "fine")]) == 0
    assert capsys.readouterr().out.endswith("All is well.\n")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"allocated_bytes": 1}, "1 allocated"),
        ({"used_bytes": 0}, "0 bytes used"),
        ({"layers_int4": 3}, "3 of 4 layers"),
        ({"fp16_allocated_bytes": 200_000}, "smaller than fp16"),
        ({"mode": CacheMode.FP16}, "the cache is fp16"),
    ],
)
def test_figures_that_cannot_be_right_are_refused(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    with EngineChild(engine_command("fake")) as child:
        assert isinstance(child.event(), Ready)
        child.ask(Load("load", str(tmp_path)))
        reply = finished(Chat(child, "c").events("Hello.", GREEDY))
        child.quit()
    check_reply(reply, CacheMode.INT4)
    cache = replace(reply.figures.cache, **change)
    with pytest.raises(BrokenError, match=complaint):
        check_reply(replace(reply, figures=replace(reply.figures, cache=cache)), CacheMode.INT4)
    with pytest.raises(BrokenError, match="empty"):
        check_reply(replace(reply, text=" "), CacheMode.INT4)
