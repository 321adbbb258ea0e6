import logging
from pathlib import Path

import pytest

from app import __version__, crash_report
from app.crash_report import crash_reports, redacted, write_crash_report
from app.errors import NibbleError
from app.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path, tmp_path, tmp_path)


def test_a_report_says_what_broke_where_and_what_went_before(paths: Paths) -> None:
    paths.log_file.write_text("".join(f"line {number}\n" for number in range(200)))
    path = write_crash_report(paths, "The engine stopped: aborted.", "libc++abi: terminating", {"Qt": "6.11.3"})
    text = path.read_text()
    assert path.parent == paths.logs
    for expected in ("The engine stopped: aborted.", f"Nibble: {__version__}", "Python: 3.", "Qt: 6.11.3", "System: "):
        assert expected in text
    assert "libc++abi: terminating" in text
    assert text.rstrip().endswith("line 199")
    assert "line 139\n" not in text, "only the end of the log"
    assert "line 140\n" in text


def test_without_a_log_there_is_a_report_all_the_same(paths: Paths) -> None:
    assert "(none)" in write_crash_report(paths, "It broke.", "", {}).read_text()


def test_no_text_of_a_chat_no_token_and_no_name_is_in_a_report(paths: Paths) -> None:
    secret = "My neighbour's cat is called Schnurr.\nDo not tell her."
    paths.log_file.write_text("Authorization: Bearer abc.def-123\nasked the hub with hf_AbCdEfGhIjKlMnOp\n")
    detail = f"""Traceback (most recent call last):
  File "{Path.home()}/nibble/app/x.py", line 3, in f
    raise ValueError(text)
ValueError: cannot read {secret!r}
prompt was: My neighbour's cat is called Schnurr. (48 tokens)
RuntimeError: something 'an older chat' said"""
    text = write_crash_report(paths, "It broke.", detail, {}, [secret]).read_text()
    for leaked in ("Schnurr", "tell her", "older chat", "hf_Ab", "abc.def", str(Path.home())):
        assert leaked not in text
    assert "~/nibble/app/x.py" in text
    assert "raise ValueError(text)" in text
    assert "[chat text] (48 tokens)" in text
    assert "asked the hub with [token]" in text


def test_short_lines_of_a_chat_do_not_eat_the_report() -> None:
    assert redacted("in app/x.py line 3", ["a\nno\nline"]) == "in app/x.py [chat text] 3"


def test_the_newest_reports_stay(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_report, "KEPT", 3)
    written = [write_crash_report(paths, f"Number {number}.", "", {}) for number in range(5)]
    assert crash_reports(paths) == written[:1:-1]


def test_a_folder_that_cannot_be_written_is_said(paths: Paths) -> None:
    gone = Paths(paths.data, paths.config, paths.cache, paths.logs / "missing")
    with pytest.raises(NibbleError, match="could not be written"):
        write_crash_report(gone, "It broke.", "", {})


def test_reports_and_logs_do_not_disturb_each_other(paths: Paths) -> None:
    logging.getLogger("app.test").info("x")
    assert crash_reports(paths) == []
    paths.fault_file.write_text("Fatal Python error")
    assert crash_reports(paths) == []
