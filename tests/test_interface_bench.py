"""The interface benchmark runs and measures what it says; its figures are no matter of tests."""

import json
import subprocess
import sys

import pytest

SIZES = {
    "--characters": 2000,
    "--tokens-per-s": 200,
    "--messages": 24,
    "--rounds": 1,
    "--conversations": 30,
    "--frames": 5,
    "--key-ms": 5,
}


@pytest.mark.slow
def test_every_part_is_measured():
    sizes = [str(word) for pair in SIZES.items() for word in pair]
    command = [sys.executable, "-m", "app.interface_bench", *sizes]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["stream"]["characters"] >= 2000
    assert 0 < report["stream"]["busy_percent"] <= 100
    assert report["stream"]["last_tenth"]["redraws_per_s"] > 0
    assert report["open"]["first_paint_ms"] > 0
    assert report["list"]["conversations"] == 30
    assert report["list"]["search"]["longest_pause_ms"] >= 0
    assert report["machine"]["qt"]
