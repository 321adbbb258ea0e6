"""The models that are on this machine already: they are used where they lie.

Looked at are the Hugging Face cache, which mlx-lm uses as well (`models--publisher--name/snapshots/<commit>`), LM
Studio's folders (`publisher/name`), and the folders that were opened in Nibble before.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from app.catalogue.completeness import missing
from app.catalogue.hub_cache import CachedRepository, cache_folder

_LM_STUDIO = (".lmstudio/models", ".cache/lm-studio/models")
_CACHED = "models--"


class Place(StrEnum):
    """Whose folder a model is in."""

    HUB = "Hugging Face cache"
    LM_STUDIO = "LM Studio"
    OPENED = "opened before"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model folder on this machine."""

    repo: str
    """`publisher/name`; the folder's own name where nobody knows who published it."""
    folder: Path
    place: Place
    missing: str = ""
    """What keeps it from being whole, as the end of a sentence; "" where it can be opened."""
    config: str = ""
    """Its config.json; "" where that cannot be read."""
    licence: str = ""
    """As the metadata of its README.md names it; "" where that says nothing."""

    @property
    def is_complete(self) -> bool:
        """Whether it can be opened."""
        return not self.missing


def local_models(opened: Sequence[str], home: Path | None = None) -> tuple[LocalModel, ...]:
    """Return the models on this machine, each once, by name; `opened` are folders that were opened before.

    A folder that cannot be read is left out.
    """
    found: dict[Path, LocalModel] = {}
    for repo, folder, place in (*_hub(), *_lm_studio(home or Path.home()), *_opened(opened)):
        key = folder.resolve()
        if key not in found:
            found[key] = LocalModel(repo, folder, place, missing(folder) or "", _config(folder), _licence(folder))
    return tuple(sorted(found.values(), key=lambda m: (m.repo.casefold(), str(m.folder))))


def _hub() -> Iterator[tuple[str, Path, Place]]:
    for cached in _folders(cache_folder()):
        publisher, _, name = cached.name.removeprefix(_CACHED).partition("--")
        if not (cached.name.startswith(_CACHED) and name):
            continue
        repo = f"{publisher}/{name}"
        main = CachedRepository(repo).main_snapshot()
        snapshots = [main] if main is not None else sorted(_folders(cached / "snapshots"), key=lambda f: f.name)
        yield from ((repo, snapshot, Place.HUB) for snapshot in snapshots if _is_model(snapshot))


def _lm_studio(home: Path) -> Iterator[tuple[str, Path, Place]]:
    for models in _LM_STUDIO:
        for publisher in _folders(home / models):
            for folder in _folders(publisher):
                if _is_model(folder):
                    yield f"{publisher.name}/{folder.name}", folder, Place.LM_STUDIO


def _opened(paths: Sequence[str]) -> Iterator[tuple[str, Path, Place]]:
    for path in map(Path, paths):
        if path.is_dir():
            yield path.name, path, Place.OPENED


def _is_model(folder: Path) -> bool:
    """Tell whether a folder is a language model in safetensors, or was to become one."""
    try:
        config = json.loads(_config(folder))
        if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
            return False
        return any(folder.glob("model*.safetensors*")) or any(folder.glob("*.incomplete"))
    except (OSError, ValueError):
        return False


def _config(folder: Path) -> str:
    return _text(folder / "config.json")


def _licence(folder: Path) -> str:
    """Return what stands under `license` between the first two lines of dashes of a model card."""
    card = re.match(r"---\s*\n(.*?)\n---", _text(folder / "README.md"), re.DOTALL)
    found = re.search(r"^license:[ \t]*[\"']?([\w.+-]+)", card[1], re.MULTILINE) if card else None
    return found[1] if found else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir())
    except OSError:
        return []
