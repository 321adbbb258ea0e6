"""Where Nibble keeps its files, and how they are written: whole or not at all, and nothing unreadable is deleted."""

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from app.errors import NibbleError

HOME_VARIABLE = "NIBBLE_HOME"


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders of one installation."""

    data: Path
    config: Path
    cache: Path
    logs: Path

    @property
    def database(self) -> Path:
        """Conversations and messages."""
        return self.data / "nibble.sqlite3"

    @property
    def calibrations(self) -> Path:
        """Folder of what was calibrated, a file a model."""
        return self.data / "calibrations"

    @property
    def saved_caches(self) -> Path:
        """Folder of conversations' KV caches, a file a conversation; all can be made again."""
        return self.cache / "conversations"

    @property
    def sessions(self) -> Path:
        """Folder of the figures of all sessions, a file a session."""
        return self.data / "sessions"

    @property
    def comparisons(self) -> Path:
        """Comparisons kept with conversations, a line each."""
        return self.data / "comparisons.jsonl"

    @property
    def downloads(self) -> Path:
        """Folder of the downloads that are under way, a file a model."""
        return self.data / "downloads"

    @property
    def settings_file(self) -> Path:
        """What the person has set for the whole app."""
        return self.config / "settings.json"

    @property
    def lock_file(self) -> Path:
        """Locked while a window is open on this data."""
        return self.data / "window.lock"

    @property
    def log_file(self) -> Path:
        """The window's log."""
        return self.logs / "nibble.log"

    @property
    def fault_file(self) -> Path:
        """What Python says of the window's process as that breaks."""
        return self.logs / "fault.txt"


def keep_private() -> None:
    """Let nobody else read what this process and its children make, whatever they were started with.

    That goes for exports too: who gets them is for their owner to say.
    """
    os.umask(0o077)


def default_paths() -> Paths:
    """Return the folders of this system, made if need be; all under `NIBBLE_HOME` where that is set.

    They are closed to other users of the machine, and so is what lies in them.

    Raises NibbleError where a folder cannot be made.
    """
    if home := os.environ.get(HOME_VARIABLE):
        root = Path(home).expanduser().absolute()
        paths = Paths(data=root / "data", config=root / "config", cache=root / "cache", logs=root / "logs")
    else:
        folders = platformdirs.PlatformDirs("Nibble", appauthor=False)
        paths = Paths(
            data=folders.user_data_path,
            config=folders.user_config_path,
            cache=folders.user_cache_path,
            logs=folders.user_log_path,
        )
    for folder in (paths.data, paths.config, paths.cache, paths.logs):
        _make_private(folder)
    return paths


def replace_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8: readers see the old file or the new one, never a part. Raises NibbleError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            # "replace": half a surrogate pair, which UTF-8 cannot hold, becomes "?" rather than an error.
            with part.open("w", encoding="utf-8", errors="replace", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NibbleError(
            f"{path} could not be written: {error.strerror or error}.",
            "Check that the folder exists, that you may write there, and that the disk is not full.",
        ) from error


def move_aside(path: Path, reason: str) -> Path:
    """Rename `path` to `<stem>.<reason>-<UTC time><suffix>`, over no other file; return that. Raises OSError."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.stem}.{reason}-{stamp}{path.suffix}")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.stem}.{reason}-{stamp}-{count}{path.suffix}")
    return path.rename(aside)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NibbleError(
            f"The folder {folder} could not be made: {error.strerror or error}.",
            f"Check that you may write there, or set {HOME_VARIABLE} to another folder.",
        ) from error
    with suppress(OSError):  # another's folder, or a file system that knows no owners
        for path in (folder, *folder.iterdir()):
            if not path.is_symlink() and path.stat().st_mode & 0o077:
                path.chmod(0o700 if path.is_dir() else 0o600)
