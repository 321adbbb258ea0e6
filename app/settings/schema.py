"""What a person may set for the whole app: values, defaults, bounds and the words that explain them."""

import dataclasses
import functools
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from app.chat.options import GROUP_SIZES, CacheMode, ChatOptions
from app.errors import NibbleError

RECENT_MODELS = 8
"""Most entries of `Settings.recent_model_paths`."""

Value = str | int | float | None
"""What one field can hold; a cache mode is a str too. None means that it is left open."""


class Appearance(StrEnum):
    """Light or dark."""

    SYSTEM = "system"
    """As the system has it, also when that changes."""
    LIGHT = "light"
    DARK = "dark"


class UpdateCheck(StrEnum):
    """When Nibble asks whether there is a newer version."""

    WHEN_ASKED = "when asked"
    AT_START = "at start"


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is kept from one start of the app to the next, besides conversations and window geometry."""

    chat: ChatOptions = dataclasses.field(default_factory=ChatOptions)
    """What new chats start with."""
    model_path: str = ""
    """Folder of the model in use; empty means the embedded starter model."""
    recent_model_paths: tuple[str, ...] = ()
    """Most recent first, at most `RECENT_MODELS`."""
    show_panel: bool = True
    appearance: Appearance = Appearance.SYSTEM
    text_size_percent: int = 100
    """Of the system's own size."""
    update_check: UpdateCheck = UpdateCheck.WHEN_ASKED
    saved_caches_gb: int = 5
    """Most that the caches of conversations take on disk; 0 keeps none there."""
    memory_budget_gb: float | None = None
    """What a model, its chats and the work on them may take, in 1,000,000,000 bytes; None: what the system allows."""

    @property
    def memory_budget_bytes(self) -> int:
        """The budget in bytes; 0 where it is automatic."""
        return round(1e9 * self.memory_budget_gb) if self.memory_budget_gb is not None else 0


@dataclass(frozen=True, slots=True)
class Field:
    """One value a person can set. Bounds are inclusive; `key` is the dotted path from Settings to the value."""

    key: str
    label: str
    help: str
    default: Value
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    unit: str = ""
    choices: tuple[Value, ...] = ()
    """Where not empty, the only values allowed."""
    words: tuple[str, ...] = ()
    """How the choices are called, where not by their values."""
    unset: str = "not set"
    """How a number is called that is left open."""
    first: float = 0
    """The number that such a field begins with once it is set."""


def value_of(settings: Settings, key: str) -> Any:
    """Return the value at a dotted key."""
    return functools.reduce(getattr, key.split("."), settings)


def with_value(settings: Settings, key: str, value: Any) -> Settings:
    """Return `settings` with another value at a dotted key; it is not checked."""
    return _replaced(settings, key.split("."), value)  # type: ignore[no-any-return]


def with_model(settings: Settings, path: str) -> Settings:
    """Return `settings` with the model at `path` as the one in use, and first among the recent ones.

    The starter model ("") is always at hand and takes no place among them.
    """
    recent = (path, *(p for p in settings.recent_model_paths if p != path)) if path else settings.recent_model_paths
    return dataclasses.replace(settings, model_path=path, recent_model_paths=recent[:RECENT_MODELS])


def checked(settings: Settings) -> Settings:
    """Return `settings` if all values are allowed. Raises NibbleError naming field, bounds and value."""
    for one in FIELDS:
        check_value(one, value_of(settings, one.key))
    if len(settings.recent_model_paths) > RECENT_MODELS:
        raise NibbleError(f"At most {RECENT_MODELS} recent models are kept, not {len(settings.recent_model_paths)}.")
    return settings


def check_value(field: Field, value: Value) -> None:
    """Raise NibbleError, naming field, bounds and value, if `field` does not allow `value`."""
    hint = f"The default is {_shown(field.default)}."
    if field.choices:
        if value not in field.choices:
            allowed = " or ".join(_shown(c) for c in field.choices)
            raise NibbleError(f"{field.label} must be {allowed}, not {_shown(value)}.", hint)
        return
    if value is None and field.default is None:
        return
    low, high = field.minimum, field.maximum
    # A NaN is in no range, so the question is asked this way round.
    if low is not None and high is not None and not (isinstance(value, int | float) and low <= value <= high):
        raise NibbleError(f"{field.label} must be from {low:g} to {high:.12g}, not {_shown(value)}.", hint)


def field(key: str) -> Field:
    """Return the field with this key; KeyError if there is none."""
    return _BY_KEY[key]


def stepped(settings: Settings, key: str, steps: int) -> Settings:
    """Return `settings` with a number moved by whole steps, within its bounds."""
    one = field(key)
    low, high = one.minimum or 0, one.maximum or 0
    moved = value_of(settings, key) + steps * (one.step or 1)
    held = min(high, max(low, moved))
    return with_value(settings, key, round(held) if isinstance(one.default, int) else held)


def is_default(settings: Settings) -> bool:
    """Tell whether every field has its default."""
    return all(value_of(settings, one.key) == one.default for one in FIELDS)


def with_fields_of(settings: Settings, other: Settings) -> Settings:
    """Return `settings` with what a person can set taken from `other`."""
    for one in FIELDS:
        settings = with_value(settings, one.key, value_of(other, one.key))
    return settings


def _shown(value: Value) -> str:
    if value is None:
        return "none"
    return str(value.value) if isinstance(value, Enum) else f"{value}"


def _replaced(owner: Any, names: list[str], value: Any) -> Any:
    name, *rest = names
    inner = _replaced(getattr(owner, name), rest, value) if rest else value
    return dataclasses.replace(owner, **{name: inner})


def _default(key: str) -> Any:
    return value_of(Settings(), key)


FIELDS: tuple[Field, ...] = (
    Field(
        key="appearance",
        label="Appearance",
        help="Light or dark windows. System: as the system has it, also when that changes at sunset.",
        default=_default("appearance"),
        choices=tuple(Appearance),
        words=("System", "Light", "Dark"),
    ),
    Field(
        key="text_size_percent",
        label="Text size",
        help="The size of all text, against the system's own. View > Bigger Text and Smaller Text change it too.",
        default=_default("text_size_percent"),
        minimum=70,
        maximum=200,
        step=10,
        unit="%",
    ),
    Field(
        key="update_check",
        label="Look for updates",
        help="Whether Nibble asks for a newer version as it starts. It tells the server nothing but its own version. "
        "Check for Updates… in the menus asks at any time.",
        default=_default("update_check"),
        choices=tuple(UpdateCheck),
        words=("Only when asked", "At every start"),
    ),
    Field(
        key="saved_caches_gb",
        label="Saved chat caches",
        help="The int4 cache of a chat is saved on disk: a long chat that is opened again goes on without being read "
        "anew. This is the most that all of them take; those not used for longest are deleted first. 0 saves none and "
        "deletes them all.",
        default=_default("saved_caches_gb"),
        minimum=0,
        maximum=1000,
        step=1,
        unit="GB",
    ),
    Field(
        key="memory_budget_gb",
        label="Memory budget",
        help="The most that a model, its chats and the work on them may take; a chat stops before it goes beyond. "
        "Automatic: what macOS recommends for the GPU.",
        default=_default("memory_budget_gb"),
        minimum=0.5,
        maximum=1024.0,
        step=0.5,
        unit="GB",
        unset="automatic",
        first=8.0,
    ),
    Field(
        key="chat.cache_mode",
        label="KV cache",
        help="How the conversation is held in memory: int4 takes about 3.5 times less than fp16, at a small loss of "
        "precision. Changing it in a chat reads the whole conversation again.",
        default=_default("chat.cache_mode"),
        choices=tuple(CacheMode),
    ),
    Field(
        key="chat.group_size",
        label="Group size",
        help="How many values of an int4 cache share one scale: 32 takes 4.5 bits a value, 64 takes 4.25 bits and is "
        "a little coarser.",
        default=_default("chat.group_size"),
        unit="values",
        choices=GROUP_SIZES,
    ),
    Field(
        key="chat.system_prompt",
        label="System prompt",
        help="What the model is told before every conversation. Empty: nothing of ours, though some models bring a "
        "prompt of their own.",
        default=_default("chat.system_prompt"),
    ),
    Field(
        key="chat.sampling.temperature",
        label="Temperature",
        help="How freely the next token is drawn. 0 always takes the likeliest one, so that the same prompt gives the "
        "same reply; the settings below then have no effect.",
        default=_default("chat.sampling.temperature"),
        minimum=0.0,
        maximum=2.0,
        step=0.05,
    ),
    Field(
        key="chat.sampling.top_p",
        label="Top-p",
        help="Draw among the likeliest tokens that together have this probability. 1 keeps all.",
        default=_default("chat.sampling.top_p"),
        minimum=0.01,
        maximum=1.0,
        step=0.01,
    ),
    Field(
        key="chat.sampling.top_k",
        label="Top-k",
        help="Draw among this many of the likeliest tokens. 0 keeps all.",
        default=_default("chat.sampling.top_k"),
        minimum=0,
        maximum=1000,
        step=1,
        unit="tokens",
    ),
    Field(
        key="chat.sampling.min_p",
        label="Min-p",
        help="Leave out tokens less likely than this share of the likeliest one. 0 keeps all.",
        default=_default("chat.sampling.min_p"),
        minimum=0.0,
        maximum=1.0,
        step=0.01,
    ),
    Field(
        key="chat.sampling.max_tokens",
        label="Longest reply",
        help="A reply that reaches this length is cut off there.",
        default=_default("chat.sampling.max_tokens"),
        minimum=1,
        maximum=131072,
        step=64,
        unit="tokens",
    ),
    Field(
        key="chat.sampling.seed",
        label="Seed",
        help="The same seed, prompt and settings draw the same reply. Not set: a new seed for every reply, shown "
        "among its figures.",
        default=_default("chat.sampling.seed"),
        minimum=0,
        maximum=2**31 - 1,
        step=1,
    ),
)
"""Every value a person can set, in the order in which a dialog shows them."""

_BY_KEY = {f.key: f for f in FIELDS}
