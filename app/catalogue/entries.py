"""The catalogue: which models Nibble lists, read from resources/models.toml. What a config implies is not in it."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from app.errors import NibbleError
from app.resources import catalogue_path


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model on the Hugging Face hub."""

    repo: str
    """`mlx-community/Qwen3-4B-4bit`"""
    name: str
    licence: str
    """As the model's page names it."""
    config: str
    """The part of its config.json on which sizes depend, as JSON."""
    context_limit_tokens: int
    sources: str
    """Where its figures are from."""
    listed: str = ""
    """The size of its weights on its page, as rounded there; "" where no listing was found."""
    other_bytes: int | None = None
    """Tokenizer and the like, rounded; None where no listing was found."""


def catalogue(path: Path | None = None) -> tuple[CatalogueEntry, ...]:
    """Return the entries in the file's order. Raises NibbleError where the file is not as it should be."""
    path = path or catalogue_path()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))["model"]
        return tuple(_entry(table) for table in tables)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NibbleError(f"{path} is no catalogue: {error!r}.", "Install Nibble again.") from error


def _entry(table: dict[str, object]) -> CatalogueEntry:
    config = table["config"]
    if not isinstance(config, dict):
        raise TypeError(f"config of {table['repo']} is no table")
    listed, other_bytes = table.get("listed", ""), table.get("other_bytes")
    return CatalogueEntry(
        repo=str(table["repo"]),
        name=str(table["name"]),
        licence=str(table["licence"]),
        config=json.dumps(config),
        context_limit_tokens=int(config["max_position_embeddings"]),
        sources=str(table["sources"]),
        listed=str(listed),
        other_bytes=other_bytes if isinstance(other_bytes, int) else None,
    )
