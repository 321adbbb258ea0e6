"""The settings file: versioned JSON, written whole or not at all, moved aside when it cannot be read."""

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.chat.plain import PlainError, from_plain, plain_fields
from app.errors import NibbleError
from app.paths import move_aside, replace_text
from app.settings.schema import FIELDS, RECENT_MODELS, Settings, check_value, checked, field

VERSION = 1


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """What the file said, and a sentence for the person where something was wrong with it ("" otherwise)."""

    settings: Settings
    notice: str


class _UnusableError(Exception):
    """The file as a whole says nothing to us: why, and the word for its new name."""

    def __init__(self, why: str, word: str = "broken") -> None:
        super().__init__(why)
        self.word = word


def load_settings(path: Path) -> LoadedSettings:
    """Read the settings; never fails, since the app must start.

    A single unusable value gets its default. A file that cannot be read at all is moved aside and all values get
    theirs. The notice says so in both cases.
    """
    try:
        data = _read(path)
    except FileNotFoundError:
        return LoadedSettings(Settings(), "")
    except _UnusableError as error:
        try:
            kept = f"It was kept as {move_aside(path, error.word)}"
        except OSError as cause:
            kept = f"It could not be moved aside ({cause.strerror})"
        return LoadedSettings(Settings(), f"The settings file {error}. {kept}, and all settings have their defaults.")
    problems: list[str] = []
    settings = _taken(Settings(), data, "", problems)
    notice = f"Some settings could not be used and have their defaults. {' '.join(problems)}" if problems else ""
    return LoadedSettings(settings, notice)


def save_settings(path: Path, settings: Settings) -> None:
    """Write the settings to `path`, whole or not at all. Raises NibbleError for values not allowed and disk errors."""
    data = {"version": VERSION, **plain_fields(checked(settings))}
    replace_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _UnusableError(f"could not be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _UnusableError("is broken: it holds no JSON") from error
    version = data.pop("version", None) if isinstance(data, dict) else None
    if type(version) is not int or version < 1:
        raise _UnusableError("is broken: it has no version")
    if version > VERSION:
        raise _UnusableError(
            f"comes from a newer Nibble: it has version {version}, this one reads up to {VERSION}", "newer"
        )
    return typing.cast(dict[str, Any], data)


def _taken(default: Any, data: Any, where: str, problems: list[str]) -> Any:
    """Return the dataclass `default` with every usable value of `data`; the others are named in `problems`."""
    if not isinstance(data, dict):
        problems.append(f"{where.rstrip('.')} must be an object.")
        return default
    hints = typing.get_type_hints(type(default))
    taken = {}
    for name, value in data.items():
        key = where + name
        if name not in hints:
            problems.append(f"{key} is not known here.")
        elif dataclasses.is_dataclass(hints[name]):
            taken[name] = _taken(getattr(default, name), value, f"{key}.", problems)
        else:
            try:
                taken[name] = _value(key, hints[name], value)
            # Overflow: an integer too long for the float that is expected.
            except (PlainError, NibbleError, OverflowError) as error:
                said = error.message if isinstance(error, NibbleError) else f"{error}."
                problems.append(said)
    return dataclasses.replace(default, **taken)


def _value(key: str, hint: Any, plain: Any) -> Any:
    value = from_plain(hint, plain, key)
    if key in {f.key for f in FIELDS}:
        check_value(field(key), value)
    return value[:RECENT_MODELS] if key == "recent_model_paths" else value
