"""The benchmark of reopening: through engine processes, with a model of a few hundred tokens."""

import json
from pathlib import Path

import pytest

from app.engine.bench.reopen import Reopening, main, table
from kernels.bench.clock import Figure
from tests.tiny_model import write_tiny_model


def test_a_chat_is_saved_reopened_and_read_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model allows fewer tokens than the chat has: the benchmark works on a copy that allows more."""
    folder = write_tiny_model(tmp_path / "tiny", max_position_embeddings=512)
    assert main(["--model", str(folder), "--tokens", "400", "--reopenings", "1"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["model"] == "tiny, 1424 tokens allowed"
    assert 400 < found["tokens"] < 500
    assert found["file_bytes"] > found["tokens"] * 3 * 2 * 2 * 18  # layers, keys and values, heads, bytes of 32 values
    assert 0 < found["new_tokens"] < 200
    assert 0 < found["loading"]["median"] < found["from_disk"]["median"] < found["with_prefill"]["median"]
    assert found["factor"] == found["with_prefill"]["median"] / found["from_disk"]["median"]


def test_what_is_no_model_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tmp_path)]) == 1
    assert "holds no config.json" in capsys.readouterr().err


def test_the_table_says_what_the_disk_had_to_do() -> None:
    ten, one = Figure(9.0, 10.0, 11.0), Figure(0.9, 1.0, 1.1)
    text = table(Reopening("m", 8192, 18_874_368, 0.5, one, one, ten, 20, was_cold=False))
    assert "m: 8,192 tokens, a file of 18.9 MB, perhaps in the system's file cache." in text
    assert "10.0 times sooner from disk" in text
