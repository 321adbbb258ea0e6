"""The Hugging Face cache on this disk, which other programs share: `HF_HUB_CACHE`, or `hub` in `HF_HOME`.

Its layout is the hub's: a repository's folder holds `blobs/<checksum>`, `snapshots/<commit>/<name>` linking to them,
and `refs/<revision>` naming a commit. A file in the making is `blobs/<checksum>.incomplete`, which grows from its
start, so that its length says where to go on. Snapshots are linked last, when every blob is whole and checked.
"""

import os
from contextlib import suppress
from pathlib import Path

from app.catalogue.plan import Plan, PlannedFile
from app.paths import replace_text

PART_SUFFIX = ".incomplete"


def cache_folder() -> Path:
    """Return the cache's folder, found as huggingface_hub finds it."""
    home = _folder("HF_HOME", _folder("XDG_CACHE_HOME", Path.home() / ".cache") / "huggingface")
    return _folder("HF_HUB_CACHE", _folder("HUGGINGFACE_HUB_CACHE", home / "hub"))


class CachedRepository:
    """One model repository's part of the cache; nothing is made before something is stored in it."""

    def __init__(self, repo: str) -> None:
        name = f"models--{repo.replace('/', '--')}"
        self.folder = cache_folder() / name
        self.locks = cache_folder() / ".locks" / name

    def blob(self, file: PlannedFile) -> Path:
        """Return where a file's bytes lie once they are whole."""
        return self.folder / "blobs" / file.digest

    def part(self, file: PlannedFile) -> Path:
        """Return where a file's bytes are gathered."""
        return self.folder / "blobs" / f"{file.digest}{PART_SUFFIX}"

    def snapshot(self, commit: str) -> Path:
        """Return the folder in which a commit's files have their names."""
        return self.folder / "snapshots" / commit

    def main_snapshot(self) -> Path | None:
        """Return the snapshot that the repository's main branch had when it was last fetched."""
        try:
            commit = (self.folder / "refs" / "main").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        return self.snapshot(commit) if commit else None

    def whole(self, plan: Plan, file: PlannedFile) -> Path | None:
        """Return a file's bytes where they are all there."""
        for path in (self.blob(file), self.snapshot(plan.commit) / file.name):
            if _size(path) == file.size:
                return path
        return None

    def bytes_present(self, plan: Plan) -> int:
        """Return how much of a plan is on the disk."""
        return sum(
            file.size if self.whole(plan, file) else min(file.size, _size(self.part(file)) or 0) for file in plan.files
        )

    def link(self, plan: Plan) -> Path:
        """Give the blobs of a plan, all whole, their names; return the snapshot. Raises OSError, NibbleError.

        config.json comes last: without it no program takes the folder for a model.
        """
        snapshot = self.snapshot(plan.commit)
        snapshot.mkdir(parents=True, exist_ok=True)
        for file in sorted(plan.files, key=lambda file: file.name == "config.json"):
            name, blob = snapshot / file.name, self.blob(file)
            if _size(name) == file.size:
                continue
            name.unlink(missing_ok=True)  # a link whose blob was removed, or was another
            try:
                name.symlink_to(os.path.relpath(blob, snapshot))
            except OSError:  # a disk without links: the hub's own programs then keep the bytes under the name as well
                blob.rename(name)
        if plan.revision != plan.commit:
            ref = self.folder / "refs" / plan.revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            replace_text(ref, plan.commit)
        return snapshot

    def discard(self, files: tuple[PlannedFile, ...]) -> None:
        """Remove the parts of `files`, and what is whole of them where no snapshot has it. Raises OSError."""
        linked = {os.path.realpath(path) for path in self.folder.glob("snapshots/*/*")}
        for file in files:
            self.part(file).unlink(missing_ok=True)
            if os.path.realpath(self.blob(file)) not in linked:
                self.blob(file).unlink(missing_ok=True)
        for folder in (self.folder / "blobs", self.folder):
            with suppress(OSError):  # somebody else's files are in it
                folder.rmdir()


def _folder(variable: str, otherwise: Path) -> Path:
    value = os.environ.get(variable)
    return otherwise if value is None else Path(os.path.expandvars(value)).expanduser()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
