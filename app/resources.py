"""Files that come with the program, from a checkout and from a frozen app alike."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BundledPart:
    """Something that others made and the bundle holds."""

    name: str
    version: str
    licence: str
    """Its name, as SPDX spells it where it is there."""
    text: str
    """All of its texts, one after another."""


def resources_path() -> Path:
    """Return the folder of bundled files."""
    frozen = getattr(sys, "_MEIPASS", None)
    root = Path(frozen) if frozen else Path(__file__).resolve().parent.parent
    return root / "resources"


def is_mac_app() -> bool:
    """Tell whether this is Nibble.app, which has its icon from its bundle."""
    return getattr(sys, "frozen", False) and sys.platform == "darwin"


def starter_model_path() -> Path:
    """Return the folder of the embedded starter model."""
    return resources_path() / "starter"


def catalogue_path() -> Path:
    """Return the list of models that are offered for download."""
    return resources_path() / "models.toml"


def calibration_text_path() -> Path:
    """Return the text that models are calibrated with: passages of ten books in the public domain."""
    return resources_path() / "calibration.txt"


def icon_path() -> Path:
    """Return the program's icon, a PNG."""
    return resources_path() / "icons" / "nibble.png"


def releases_address() -> str:
    """Return where the newest release is told, written into the bundle as it is built; "" in a checkout."""
    file = resources_path() / "releases.txt"
    return file.read_text(encoding="utf-8").strip() if file.exists() else ""


def licences_path() -> Path:
    """Return the folder with the licences of all that the bundle holds."""
    return resources_path() / "licences"


def bundled_parts() -> list[BundledPart]:
    """Return what the bundle holds of others, Qt first, with the licences' texts."""
    folder = licences_path()
    return [
        BundledPart(
            part["name"],
            part["version"],
            part["licence"],
            "\n\n".join((folder / name).read_text(encoding="utf-8") for name in part["texts"]),
        )
        for part in json.loads((folder / "parts.json").read_text(encoding="utf-8"))
    ]
