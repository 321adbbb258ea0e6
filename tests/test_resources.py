"""What comes with the program is there, and is what it is taken for."""

from PySide6.QtGui import QImage

from app.resources import icon_path, starter_model_path


def test_the_icon_is_a_square_picture() -> None:
    image = QImage(str(icon_path()))
    assert image.width() == image.height() == 512
    assert image.hasAlphaChannel()


def test_the_starter_is_complete() -> None:
    names = {file.name for file in starter_model_path().iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"} <= names
