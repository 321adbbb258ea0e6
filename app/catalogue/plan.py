"""What a download is made of: the files of one commit of a repository, with sizes and checksums."""

import re
from dataclasses import dataclass

_SHA256_DIGITS = 64
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


def is_repository(name: str) -> bool:
    """Return whether `name` can name a repository: "owner/name", or an old one without an owner."""
    return bool(_REPOSITORY.fullmatch(name)) and ".." not in name


def is_revision(name: str) -> bool:
    """Return whether `name` can name a branch, a tag or a commit, and a file in the cache."""
    return bool(_REVISION.fullmatch(name)) and ".." not in name


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file. `digest` names it in the hub's cache and is its checksum: sha256 with Git LFS, else git's sha1.

    Each becomes part of a path, so a name or checksum that could lead elsewhere is refused. Raises ValueError.
    """

    name: str
    size: int
    """Bytes."""
    digest: str

    def __post_init__(self) -> None:
        if not PLAIN_NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no plain file name")
        if self.size < 0:
            raise ValueError(f"{self.name}: a size of {self.size}")
        if not _DIGEST.fullmatch(self.digest):
            raise ValueError(f"{self.name}: {self.digest!r} is no checksum")

    @property
    def is_lfs(self) -> bool:
        """Whether the checksum is a sha256, as it is of all large files."""
        return len(self.digest) == _SHA256_DIGITS


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a download fetches. Raises ValueError for names that could lead out of the cache."""

    repo: str
    revision: str
    """What was asked for: a branch, a tag, or `commit` itself."""
    commit: str
    files: tuple[PlannedFile, ...]

    def __post_init__(self) -> None:
        if not is_repository(self.repo):
            raise ValueError(f"{self.repo!r} is no repository")
        if not is_revision(self.revision):
            raise ValueError(f"{self.revision!r} is no revision")
        if not _COMMIT.fullmatch(self.commit):
            raise ValueError(f"{self.commit!r} is no commit")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)
