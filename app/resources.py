"""Files that come with the program, from a checkout and from a frozen app alike."""

import sys
from pathlib import Path


def resources_path() -> Path:
    """Return the folder of bundled files."""
    frozen = getattr(sys, "_MEIPASS", None)
    root = Path(frozen) if frozen else Path(__file__).resolve().parent.parent
    return root / "resources"


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
