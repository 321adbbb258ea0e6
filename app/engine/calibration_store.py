"""Calibrations on disk: one file a model, under the fingerprint of its folder.

A file is used only for the folder, the text and the format version that it was made with. One that cannot be read is
moved aside.
"""

import hashlib
import json
import logging
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlx.core as mx

from app.engine.calibration import Calibration, LayerConstants
from app.paths import move_aside

_log = logging.getLogger(__name__)

FORMAT = "nibble-calibration"
VERSION = 2
_SAMPLE_BYTES = 1024


def fingerprint(folder: Path) -> str:
    """Return what tells a model folder from others, 32 hexadecimal digits. Raises OSError and ValueError.

    It covers config.json, and of every tensor of `model*.safetensors` its name, shape, type and the 1,024 bytes in its
    middle: not the whole weights, which would take seconds to read.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("model*.safetensors")):
        with path.open("rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little"))
            digest.update(header)
            data = file.tell()
            tensors = json.loads(header)
            tensors.pop("__metadata__", None)
            for tensor in tensors.values():
                begin, end = tensor["data_offsets"]
                file.seek(data + begin + max(0, end - begin - _SAMPLE_BYTES) // 2)
                digest.update(file.read(min(_SAMPLE_BYTES, end - begin)))
    return digest.hexdigest()[:32]


def constants_digest(calibration: Calibration) -> str:
    """Return what tells constants, and the layers that they leave fp16, from others: 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for number, layer in enumerate(calibration.layers):
        for name, array in layer.arrays.items():
            digest.update(f"{number}.{name}{array.shape}".encode())
            octets: Any = array  # MLX's stubs tell of its buffers from Python 3.12 on
            digest.update(bytes(memoryview(octets)))
        digest.update(f"{number} {bool(layer.reason)}".encode())
    return digest.hexdigest()[:32]


class CalibrationStore:
    """The calibrations kept in `folder`, which is made when there is something to keep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, model: str) -> Path:
        """Return where the calibration of the model with fingerprint `model` is kept."""
        return self._folder / f"{model}.safetensors"

    def load(self, model: str, text: str, layers: int) -> Calibration | None:
        """Return what is kept for this fingerprint, made with `text`, of `layers` layers; None where nothing is."""
        path = self.path(model)
        if not path.is_file():
            return None
        try:
            arrays, metadata = _read(path)
            if not _identity(model, text).items() <= metadata.items():
                _log.info("%s belongs to another model, text or version", path)
                if _is_newer(metadata):
                    with suppress(OSError):
                        move_aside(path, "newer")
                return None
            return _calibration(arrays, metadata, layers)
        except (RuntimeError, ValueError, KeyError, TypeError):
            _log.warning("%s cannot be read and is moved aside", path, exc_info=True)
            with suppress(OSError):
                move_aside(path, "bad")
            return None

    def save(self, model: str, text: str, calibration: Calibration) -> None:
        """Keep `calibration`: readers see the old file or the new one, never a part. Raises OSError, RuntimeError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path(model)
        part = path.with_name(f".{path.stem}.{os.getpid()}.part.safetensors")
        arrays = {
            f"{layer}.{name}": array
            for layer, constants in enumerate(calibration.layers)
            for name, array in constants.arrays.items()
        }
        contents = {
            "source": calibration.source,
            "reasons": json.dumps([c.reason for c in calibration.layers]),
            "remarks": json.dumps(calibration.remarks),
        }
        try:
            mx.save_safetensors(str(part), arrays, {**_identity(model, text), **contents})
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    contents: Any = mx.load(str(path), return_metadata=True)
    arrays, metadata = contents
    mx.eval(arrays)
    return arrays, metadata


def _is_newer(metadata: dict[str, str]) -> bool:
    """Tell whether a later Nibble made the file, which one of its own would otherwise be written over."""
    version = metadata.get("version", "")
    return metadata.get("format") == FORMAT and version.isdecimal() and int(version) > VERSION


def _identity(model: str, text: str) -> dict[str, str]:
    text_hash = hashlib.sha256(text.encode()).hexdigest()
    return {"format": FORMAT, "version": str(VERSION), "fingerprint": model, "text_sha256": text_hash}


def _calibration(arrays: dict[str, mx.array], metadata: dict[str, str], layers: int) -> Calibration:
    reasons, remarks = json.loads(metadata["reasons"]), json.loads(metadata["remarks"])
    if len(reasons) != layers:
        raise ValueError(f"it has {len(reasons)} layers, the model {layers}")
    for name, array in arrays.items():
        of_keys_only = name.endswith(".smooth")
        shaped = array.ndim == 2 if of_keys_only else array.ndim == 3 and array.shape[0] == 2
        fits = shaped and array.dtype == mx.float32
        least = -math.inf if name.endswith(".mu") else 0.0
        if not fits or not (mx.isfinite(array) & (array > least)).all().item():
            raise ValueError(f"{name} holds no constants of a layer")
    return Calibration(
        tuple(
            LayerConstants(
                arrays.get(f"{layer}.mu"), arrays.get(f"{layer}.smooth"), arrays.get(f"{layer}.lam"), str(reason)
            )
            for layer, reason in enumerate(reasons)
        ),
        metadata["source"],
        tuple(map(str, remarks)),
    )
