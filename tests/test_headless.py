import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app import headless
from app.__main__ import command_line, main
from app.chat.options import CacheMode
from app.engine.fake_engine import FakeEngine
from app.errors import NibbleError
from tests.tiny_model import write_tiny_model

FAKE_HEADLESS = (
    "import sys\n"
    "from app import headless\n"
    "from app.__main__ import command_line\n"
    "from app.engine.fake_engine import FakeEngine\n"
    "sys.exit(headless.main(command_line().parse_args(), FakeEngine))\n"
)


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "a model"
    folder.mkdir()
    return str(folder)


def answer(*argv: str) -> int:
    return headless.main(command_line().parse_args(argv), FakeEngine)


def rows_of(table: str) -> dict[str, list[str]]:
    """Read a printed table back: label to cells."""
    cells = [re.split(r"\s{2,}", line) for line in table.splitlines()]
    return {row[0]: row[1:] for row in cells if len(row) > 1}


def test_the_reply_is_all_that_stands_on_stdout(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer("--prompt", "[markdown]", "--model", model) == 0
    out, err = capsys.readouterr()
    assert out.startswith("# A heading\n\nSome *emphasis*")
    assert out.rstrip().endswith("| 16 | 128 |")
    rows = rows_of(err)
    assert rows["Model"] == ["a model"]
    assert rows["KV cache"] == ["int4, one scale for 32 values: 4.5 bits a value"]
    assert rows["Ratio"] == ["3.56x"]
    assert rows["KV allocated"] == ["147 KB"]
    assert rows["Layers in int4"] == ["4 of 4"]
    for label in ("First token", "Prefill", "Decode", "Memory peak", "Seed", "Prompt", "Reply"):
        assert rows[label]


@pytest.mark.parametrize(
    ("flags", "line", "ratio"),
    [
        (["--cache", "fp16"], "fp16, as mlx-lm keeps it: 16 bits a value (float16)", "1.00x"),
        (["--group-size", "64"], "int4, one scale for 64 values: 4.25 bits a value", "3.76x"),
    ],
)
def test_the_cache_is_held_as_asked(
    model: str, capsys: pytest.CaptureFixture[str], flags: list[str], line: str, ratio: str
) -> None:
    assert answer("--prompt", "Hello.", "--model", model, *flags) == 0
    rows = rows_of(capsys.readouterr().err)
    assert rows["KV cache"] == [line]
    assert rows["Ratio"] == [ratio]


def test_sampling_options_reach_the_engine(model: str, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    flags = [
        "--temperature",
        "0.5",
        "--top-p",
        "0.8",
        "--top-k",
        "7",
        "--min-p",
        "0.1",
        "--max-tokens",
        "9",
        "--seed",
        "11",
    ]
    assert answer("--prompt", "Hello.", "--model", model, "--export", str(file), *flags) == 0
    (reply,) = json.loads(file.read_text())["replies"]
    assert [reply[k] for k in ("temperature", "top_p", "top_k_tokens", "min_p", "max_tokens", "seed")] == [
        0.5, 0.8, 7, 0.1, 9, 11,
    ]  # fmt: skip


def test_greedy_is_temperature_zero(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for _ in range(2):
        assert answer("--prompt", "Hello.", "--model", model, "--greedy") == 0
        out, err = capsys.readouterr()
        texts.append(out)
        assert rows_of(err)["Seed"] == ["none: greedy"]
    assert texts[0] == texts[1]


def test_compare_lays_both_modes_side_by_side(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.csv"
    assert answer("--prompt", "[part 5] Go on.", "--cache", "compare", "--model", model, "--export", str(file)) == 0
    out = capsys.readouterr().out
    fp16, int4 = out.index("[fp16]"), out.index("[int4]")
    assert fp16 < int4
    assert "otherwise" in out[int4:]
    assert "otherwise" not in out[fp16:int4]
    rows = rows_of(out)
    assert rows["Ratio"] == ["1.00x", "3.56x"]
    assert rows["Seed"][0] == rows["Seed"][1]
    assert "int4 allocates 3.56 times fewer KV bytes than fp16" in out
    assert "The replies part at token 5 and at character " in out
    assert re.search(r"^\d+% of the tokens are equal", out, re.MULTILINE)
    exported = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert len(exported) == 2


def test_compare_says_when_nothing_parts(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer("--prompt", "Go on.", "--cache", "compare", "--model", model) == 0
    assert "Both replies are the same, token by token." in capsys.readouterr().out


class BreaksInInt4(FakeEngine):
    def generate(self, request, emit, cancelled):
        if request.options.cache_mode is CacheMode.INT4:
            raise NibbleError("Out of memory.")
        super().generate(request, emit, cancelled)


def test_a_compare_whose_second_mode_fails_still_shows_the_first(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    flags = ["--prompt", "Go on.", "--cache", "compare", "--model", model, "--export", str(file)]
    assert headless.main(command_line().parse_args(flags), BreaksInInt4) == 1
    out, err = capsys.readouterr()
    assert rows_of(out)["Ratio"] == ["1.00x"]
    assert err.endswith("nibble: Out of memory.\n")
    assert len(json.loads(file.read_text())["replies"]) == 1


def test_a_place_that_cannot_be_written_is_refused_before_the_reply(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(headless.os, "access", lambda path, mode: path != tmp_path)
    assert answer("--prompt", "x", "--model", model, "--export", str(tmp_path / "f.csv")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "cannot be written" in err


def test_a_long_prompt_comes_from_a_file(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("word " * 500, encoding="utf-8")
    assert answer("--prompt-file", str(file), "--model", model) == 0
    assert rows_of(capsys.readouterr().err)["Prompt"][0].startswith("50")


def test_a_prompt_comes_from_stdin(model: str) -> None:
    command = [sys.executable, "-c", FAKE_HEADLESS, "--prompt-file", "-", "--model", model]
    done = subprocess.run(command, input="[markdown]", capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("# A heading")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--prompt", "  "], "The prompt is empty."),
        (["--prompt-file", "/nowhere/p.txt"], "The prompt in /nowhere/p.txt cannot be read: No such file"),
        (["--prompt", "x", "--model", "/nowhere/m"], "There is no model folder at /nowhere/m. Choose another folder."),
        (["--prompt", "x", "--top-p", "7"], "Top-p must be from 0.01 to 1, not 7.0."),
        (["--prompt", "x", "--max-tokens", "0"], "must be from 1 to"),
        (["--prompt", "[fail decode]"], "The script asks for a failure in decode. Ask for something else."),
        (["--prompt", "x", "--export", "f.xlsx"], "Figures cannot be exported to f.xlsx."),
        (["--prompt", "x", "--export", "/nowhere/f.csv"], "There is no folder /nowhere to export to."),
        (["--prompt", "x", "--export", "/nowhere/f.md"], "There is no folder /nowhere to export to."),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    model: str, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert answer("--model", model, *argv) == 1
    err = capsys.readouterr().err
    assert f"nibble: {message}" in err or message in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_model_that_does_not_fit_is_opened_anyway_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "huge [big]"
    folder.mkdir()
    flags = ["--prompt", "[tokens 4]", "--model", str(folder)]
    assert answer(*flags) == 1
    err = capsys.readouterr().err
    assert "does not fit in memory here" in err
    assert "--anyway opens it all the same" in err
    assert answer(*flags, "--anyway") == 0


def test_a_defect_shows_its_traceback(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer("--prompt", "[defect decode]", "--model", model) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "ZeroDivisionError" in err


@pytest.mark.parametrize("cache", ["int4", "compare"])
def test_ctrl_c_stops_in_good_order(model: str, tmp_path: Path, cache: str) -> None:
    file = tmp_path / "figures.json"
    prompt = "[tokens 3000] [token-ms 5] Go on."
    flags = ["--cache", cache, "--model", model, "--max-tokens", "3000", "--export", str(file)]
    command = [sys.executable, "-c", FAKE_HEADLESS, "--prompt", prompt, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "(cancelled)" in out + err
    (reply,) = json.loads(file.read_text())["replies"]
    assert reply["finish_reason"] == "cancelled"


def test_a_reader_that_leaves_ends_it_quietly(model: str) -> None:
    command = [sys.executable, "-c", FAKE_HEADLESS, "--prompt", "[tokens 400] Go on.", "--model", model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 1


def test_options_of_a_reply_need_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--cache", "fp16"])
    assert exit_.value.code == 2
    assert "--cache needs --prompt" in capsys.readouterr().err


def test_a_model_alone_opens_the_window_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr("app.main.main", lambda *given: asked.append(given) or 0)
    assert main(["--model", "some/folder"]) == 0
    assert main([]) == 0
    assert asked == [(sys.argv[:1], Path("some/folder")), (sys.argv[:1], None)]


def test_the_self_test_takes_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--self-test", "--model", "some/folder"])
    assert "--model does not go with --self-test" in capsys.readouterr().err


def test_the_real_engine_answers_and_exports(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny")
    file = tmp_path / "out.json"
    flags = ["--model", str(model), "--cache", "compare", "--greedy", "--max-tokens", "8", "--export", str(file)]
    command = [sys.executable, "-m", "app", "--prompt", "Tell me a story.", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    rows = rows_of(done.stdout)
    assert rows["Model"] == ["tiny", "tiny"]
    assert float(rows["Ratio"][1].rstrip("x")) > 3.4
    fp16, int4 = json.loads(file.read_text())["replies"]
    assert fp16["effective_mode"] == "fp16"
    assert int4["effective_mode"] == "int4"
