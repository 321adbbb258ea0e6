"""Calibration on one kind of text measured on another: what is read, and what comes out."""

from pathlib import Path

import pytest

from app.chat.quality import Effort
from app.engine.ablations.transfer import KINDS, Crossing, main, table, texts, transfer
from app.engine.model_folder import OpenModel, open_model
from app.engine.quality_text import bundled_texts, dialogues_in
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("models") / "tiny"), lambda _: None)


def test_no_passage_is_both_learned_from_and_measured(opened: OpenModel) -> None:
    learned, measured = texts(opened)
    assert set(learned) == set(measured) == set(KINDS)
    assert learned["chat"].startswith("<|im_start|>user\n")
    whole = bundled_texts()[1].text.split("\n---\n")
    held_out = measured["chat"].text.split("\n---\n")
    assert held_out == whole[len(whole) - len(held_out) :]
    assert learned["chat"].count("<|im_start|>user") == sum(
        turn["role"] == "user" for part in whole[: len(whole) - len(held_out)] for turn in dialogues_in(part)[0]
    )
    assert measured["prose"].text[:200] not in learned["prose"]


def test_both_kinds_are_measured_with_both_constants_at_both_group_sizes(opened: OpenModel) -> None:
    found = transfer(opened, Effort(1, 64), lambda _: None)
    assert [(c.measured_on, c.group_size) for c in found] == [
        (kind, size) for kind in ("prose", "chat") for size in (32, 64)
    ]
    assert all(c.own_kl > 0 and c.other_kl > 0 for c in found)
    assert any(c.own_kl != c.other_kl for c in found)


def test_the_ratio_is_what_the_other_kinds_constants_cost() -> None:
    line = table("m", [Crossing("prose", 32, own_bits=4.5, own_kl=0.02, other_bits=5.0, other_kl=0.03)])[-1]
    assert line.split() == ["prose", "32", "4.50", "0.0200", "5.00", "0.0300", "1.500"]


def test_what_cannot_be_opened_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "no config.json" in capsys.readouterr().err
