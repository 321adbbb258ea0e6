"""What a model is called: its folder's name, or in the Hugging Face cache its repository's."""

from pathlib import Path

_CACHED = "models--"


def model_name(folder: Path) -> str:
    """Return the name of the model in `folder`.

    In the cache that folder is named by a commit: `models--publisher--name/snapshots/<commit>`.
    """
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith(_CACHED):
        return repository.removeprefix(_CACHED).rpartition("--")[2]
    return folder.name
