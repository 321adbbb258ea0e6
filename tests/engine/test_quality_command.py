"""`python -m app --quality`: what it prints and writes, and what it refuses."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

from app.__main__ import command_line, main
from app.chat.quality import MOST_PASSES, Effort, csv_text, json_text, reports_from_json
from app.engine import model_folder, quality_command
from app.engine.calibration import Calibration, LayerConstants
from app.engine.codings import (
    plain_variants,
)
from app.engine.model_folder import Calibrating, OpenModel, open_model
from app.engine.quality import measure_deployed
from app.engine.quality_text import own_text
from app.errors import NibbleError
from app.paths import default_paths
from tests.engine.quality_trial import TEXT, measured, never, silent


def test_json_holds_everything_and_csv_the_table(opened: OpenModel) -> None:
    report = measured(opened, plain_variants()[:2])
    assert reports_from_json(json_text([report])) == (report,)
    head, *lines = (line.split(",") for line in csv_text([report, report]).splitlines())
    assert len(lines) == 4
    row = dict(zip(head, lines[1], strict=False))
    assert row["variant"] == "plain int4"
    assert float(row["kl_nats_high"]) == report.variants[1].kl_nats.high
    assert row["text_sha256"] == report.text_sha256
    assert row["spread_kind"] == "min to max"


def test_the_command_prints_a_table_and_writes_both_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, files = tmp_path / "own.txt", {kind: tmp_path / f"figures.{kind}" for kind in ("csv", "json")}
    text.write_text(TEXT.text)
    argv = ["--quality", "--model", str(folder), "--text", str(text), "--windows", "1", "--context", "64"]
    assert main([*argv, "--csv", str(files["csv"]), "--json", str(files["json"])]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("tiny (qwen2, float32) on own.txt: 1 window of 64 tokens, the last 32 of each scored.\n")
    (report,) = json.loads(files["json"].read_text())["reports"]
    names = [variant["name"] for variant in report["variants"]]
    assert names[:2] == ["fp16", "plain int4"]
    assert {"mlx affine g32", "ours g32, uncalibrated", "ours g32", "ours g64", "ours g32, no rotation"} <= set(names)
    assert [line.split("  ")[0] for line in out.splitlines()[3 : 3 + len(names)]] == names
    assert len(files["csv"].read_text().splitlines()) == 1 + len(names)


def test_the_command_names_layers_that_calibration_keeps_in_fp16(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = (LayerConstants(), LayerConstants(reason="it suffers"), LayerConstants())
    monkeypatch.setattr(model_folder, "calibrate", lambda *_: Calibration(layers, "another text", ("It was hard.",)))
    text = tmp_path / "own.txt"
    text.write_text(TEXT.text)
    assert main(["--quality", "--model", str(folder), "--text", str(text), "--windows", "1", "--context", "32"]) == 0
    out = capsys.readouterr().out
    assert "Constants of ours: another text." in out
    assert "fp16 in ours, layers 1: it suffers.\nIt was hard.\n" in out


def test_the_calibration_is_that_of_the_window_and_made_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "own.txt"
    text.write_text(TEXT.text)
    argv = ["--quality", "--model", str(folder), "--text", str(text), "--windows", "1", "--context", "32"]
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert len(list(default_paths().calibrations.iterdir())) == 1

    def never_again(*_: object) -> None:
        raise AssertionError("calibrated anew")

    monkeypatch.setattr(model_folder, "calibrate", never_again)
    assert main(argv) == 0
    assert capsys.readouterr().out == first
    assert "Constants of ours: calibration." in first


def test_layers_that_calibration_keeps_in_fp16_are_so_in_ours_alone(folder: Path) -> None:
    layers = (LayerConstants(), LayerConstants(reason="it suffers"), LayerConstants())
    kept = Calibration(layers, "a test")
    opened = open_model(folder, lambda _: None)
    plan = opened.plan.calibrated(kept)
    assert plan.int4_layers == 2
    report = measure_deployed(replace(opened, plan=plan, calibration=kept), TEXT, Effort(1, 32), silent, never)
    bits = {v.name: v.bits_per_value for v in report.variants}
    assert bits["plain int4"] == bits["ours g32, uncalibrated"] == 4.5
    assert bits["ours g32"] == pytest.approx((4.5 + 4.5 + 32) / 3)
    assert report.remarks[0] == "fp16 in ours, layers 1: it suffers."


def test_no_window_is_read_more_often_than_it_is_said_to_be(folder: Path, tmp_path: Path) -> None:
    opened = open_model(folder, lambda _: None, Calibrating(tmp_path, lambda _: None, never))
    report = measure_deployed(opened, TEXT, Effort(1, 32), silent, never)
    left_out = sum("left out" in remark for remark in report.remarks)
    assert 1 + len(report.variants) + left_out == MOST_PASSES


def test_the_command_refuses_in_a_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quality", "--text", str(tmp_path / "none.txt")]) == 1
    assert capsys.readouterr().err.startswith(f"nibble: The text in {tmp_path / 'none.txt'} cannot be read")
    assert main(["--quality", "--csv", str(tmp_path / "none" / "a.csv")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(NibbleError, match="not text in UTF-8"):
        own_text(tmp_path / "latin.txt")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--windows", "2"], "--windows needs --quality"),
        (["--prompt", "x", "--csv", "a.csv"], "--csv needs --quality"),
        (["--quality", "--greedy"], "--temperature does not go with --quality"),
        (["--quality", "--windows", "0"], "must be 1 or more"),
    ],
)
def test_options_stand_with_the_one_they_belong_to(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    assert said in capsys.readouterr().err


def test_ctrl_c_ends_in_good_order(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: argparse.Namespace, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quality_command, "run", interrupted)
    assert quality_command.main(command_line().parse_args(["--quality"])) == 130
    assert capsys.readouterr() == ("", "")
