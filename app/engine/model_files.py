"""What a model folder must hold, looked at before a model that is open is given up for it.

Nothing of a folder is ever run. Weights are read from .safetensors files alone, which hold numbers and names; PyTorch's
files are pickles, which can hold code. Python files are never looked at, whatever a config says of them.
"""

import json
import re
from pathlib import Path
from typing import Any

from app.engine.folder_check import check_files, check_headers
from app.errors import NibbleError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "*.tiktoken", "vocab.json", "vocab.txt")
_PYTORCH_FILES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_NUMBERED = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")
_INDEX = "model.safetensors.index.json"
_FETCH_AGAIN = "Fetch this model again."
_CHOOSE_FOLDER = "Choose the folder that holds config.json and the .safetensors files."
_CONVERTED = "Choose this model in mlx-lm's format: for most there is one by mlx-community."


def read_config(path: Path) -> dict[str, Any]:
    """Return a model folder's config.json after looking for what else must be there. Raises NibbleError."""
    if path.is_file():
        raise _not_a_folder(path)
    if not path.is_dir():
        raise NibbleError(f"There is no folder {path}.", "Choose a folder that holds a model in mlx-lm's format.")
    check_files(path)
    config = _config(path)
    _check_weights(path)
    check_headers(path, config)
    if not any(any(path.glob(name)) for name in _TOKENIZER_FILES):
        raise NibbleError(
            f"{path} holds no tokenizer (tokenizer.json).", "Finish the download, or choose another folder."
        )
    return config


def short(error: BaseException) -> str:
    """Return the first line of an error's text, cut to a readable length."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 200 else line[:199] + "…"


def _not_a_folder(path: Path) -> NibbleError:
    if path.suffix == ".gguf":
        return NibbleError(f"{path} is a GGUF file, which mlx-lm does not open.", _CONVERTED)
    return NibbleError(f"{path} is a file; a model is a folder.", _CHOOSE_FOLDER)


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    if not file.is_file():
        if foreign := _foreign_weights(path):
            raise foreign
        inside = sorted(found.parent.name for found in path.glob("*/config.json"))
        raise NibbleError(
            f"{path} holds no config.json, so it is no model folder.",
            f"Choose a folder inside it, such as {inside[0]}." if inside else _CHOOSE_FOLDER,
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NibbleError(f"{file} cannot be read: {short(error)}", _FETCH_AGAIN) from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise NibbleError(f"{file} names no model_type.", _FETCH_AGAIN)
    if config.get("model_file") is not None:
        raise NibbleError(
            f"{path} wants to run Python code of its own ({config['model_file']}), which Nibble never does.",
            "Choose a model of an architecture that mlx-lm knows.",
        )
    return config


def _check_weights(path: Path) -> None:
    files = sorted(path.glob("model*.safetensors"))
    if not files:
        raise _foreign_weights(path) or NibbleError(
            f"{path} holds no weights (model*.safetensors).", "Finish the download, or choose another folder."
        )
    names = [file.name for file in files]
    missing = sorted(_all_parts(path, names) - set(names))
    if missing:
        several = f"{len(missing)} weight files" if len(missing) > 1 else "a weight file"
        raise NibbleError(
            f"{path} lacks {several}: {missing[0]}{', …' if len(missing) > 1 else ''}", "Finish the download."
        )


def _all_parts(path: Path, names: list[str]) -> set[str]:
    """Return the weight files that there should be, by the index or by their own numbers.

    mlx-lm reads what is there and no index: one that knows none of the files is a left-over of other weights.
    """
    index = path / _INDEX
    if index.is_file():
        try:
            listed = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise NibbleError(f"{index} cannot be read: {short(error)}", _FETCH_AGAIN) from error
        if listed & set(names):
            return listed
    numbered = [match for name in names if (match := _NUMBERED.fullmatch(name))]
    return {
        f"model-{part:0{len(match[1])}}-of-{match[2]}.safetensors"
        for match in numbered
        for part in range(1, int(match[2]) + 1)
    }


def _foreign_weights(path: Path) -> NibbleError | None:
    """Return what to say of a folder whose weights are in a format of others, if they are."""
    if any(path.glob("*.gguf")):
        return NibbleError(f"{path} holds a GGUF model, which mlx-lm does not open.", _CONVERTED)
    if pickles := sorted(file.name for pattern in _PYTORCH_FILES for file in path.glob(pattern)):
        return NibbleError(
            f"{path} holds PyTorch weights ({pickles[0]}), which can contain code and are never read.", _CONVERTED
        )
    return None
