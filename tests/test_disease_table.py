"""The table of diseases: every disease measured with every variant, and ratios that are over the healthy model's."""

from pathlib import Path

import pytest

from app.chat.quality import Effort
from app.engine.quality_text import bundled_texts
from tests.disease_table import DISEASES, HEALTHY, VARIANTS, Line, lines, main, table
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", rope_theta=1e6)


def test_ours_withstands_what_plain_int4_dies_of(folder: Path) -> None:
    found = {line.variant: line for line in lines(folder, bundled_texts()[0], Effort(1, 64), lambda _: None)}
    assert tuple(found) == VARIANTS
    for index, disease in enumerate(DISEASES):
        if disease == HEALTHY:
            continue
        assert found["plain int4"].ratios[index] > 2
        assert found["ours g32"].ratios[index] < 1.3
    outliers = list(DISEASES).index("outliers")
    assert found["ours g32, no smoothing"].ratios[outliers] > 2


def test_ratios_are_over_the_healthy_model() -> None:
    (head, row) = table([Line("ours g32", 4.5, (0.02, 0.03, 0.05, 0.02))])
    assert " ".join(row.split()) == "ours g32 4.50 0.0200 (1.00) 0.0300 (1.50) 0.0500 (2.50) 0.0200 (1.00)"
    assert head.split()[:3] == ["variant", "bits", HEALTHY]


def test_the_command_prints_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(folder), "--windows", "1", "--context", "32", "--chat"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "tiny on bundled chat, 1 windows of 32 tokens: KL, nats"
    assert [line[:28].strip() for line in printed[2:]] == list(VARIANTS)
