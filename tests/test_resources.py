"""What comes with the program is there, and is what it is taken for."""

import sys

import pytest
from PySide6.QtGui import QImage

from app.resources import icon_path, is_mac_app, starter_model_path


def test_the_icon_is_a_square_picture() -> None:
    image = QImage(str(icon_path()))
    assert image.width() == image.height() == 512
    assert image.hasAlphaChannel()


@pytest.mark.parametrize(
    ("platform", "frozen", "told"), [("darwin", True, True), ("darwin", False, False), ("linux", True, False)]
)
def test_the_app_of_a_mac_is_known(monkeypatch, platform, frozen, told) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    assert is_mac_app() is told


def test_the_starter_is_complete() -> None:
    names = {file.name for file in starter_model_path().iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"} <= names
