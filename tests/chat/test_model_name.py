from pathlib import Path

import pytest

from app.chat.model_name import model_name


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/models/Qwen3-4B-4bit", "Qwen3-4B-4bit"),
        ("/hub/models--mlx-community--Qwen3-4B-4bit/snapshots/c0ffee", "Qwen3-4B-4bit"),
        ("/hub/models--gpt2/snapshots/c0ffee", "gpt2"),
        ("/my/snapshots/c0ffee", "c0ffee"),
        ("/hub/models--a--b/other/c0ffee", "c0ffee"),
    ],
)
def test_a_model_is_called_by_its_folder_or_its_repository(folder, name):
    assert model_name(Path(folder)) == name
