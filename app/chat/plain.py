"""Frozen values to JSON types and back, checked field by field. The protocol, the store and the settings use it."""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Hashable
from enum import Enum
from typing import Any

_NUMBERS = 2**63
"""No figure of ours needs more bits, and Qt and SQLite have no more."""


class PlainError(ValueError):
    """The data does not fit the type; the message says where and why."""


def to_plain(value: Any) -> Any:
    """Return a frozen value as JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_fields(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    return value


def from_plain(hint: Any, value: Any, where: str = "value") -> Any:
    """Build a value of type `hint` from JSON types, checking every field. Raises PlainError."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _from_optional(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise PlainError(f"{where}: expected a list, got {type(value).__name__}")
        (item, _) = typing.get_args(hint)
        return tuple(from_plain(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_fields(hint, value, where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            raise PlainError(f"{where}: {value!r} is none of {[m.value for m in hint]}") from None
    if type(value) is not hint and not (hint is float and type(value) is int):
        raise PlainError(f"{where}: expected {hint.__name__}, got {type(value).__name__}")
    if hint is int and not -_NUMBERS <= value < _NUMBERS:
        raise PlainError(f"{where}: the number is too large")
    if hint is float:
        # JSON has neither infinity nor NaN, but Python reads 1e999 as one, and integers of any length.
        if isinstance(value, float) and not math.isfinite(value):
            raise PlainError(f"{where}: expected a finite number, got {value}")
        try:
            return float(value)
        except OverflowError:
            raise PlainError(f"{where}: the number is too large") from None
    return value


def plain_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance by name, as JSON types."""
    return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}


def _from_optional(hint: Any, value: Any, where: str) -> Any:
    if value is None and type(None) in typing.get_args(hint):
        return None
    (inner,) = (a for a in typing.get_args(hint) if a is not type(None))
    return from_plain(inner, value, where)


@functools.cache
def _types_of(cls: Any) -> tuple[dict[str, Any], dict[str, "dataclasses.Field[Any]"]]:
    """Return a dataclass's types and fields by name; an event is read for every token."""
    return typing.get_type_hints(cls), {f.name: f for f in dataclasses.fields(cls)}


def from_fields(cls: type[Any], value: Any, where: str) -> Any:
    """Build a `cls` from an object whose keys are its fields. Raises PlainError."""
    if not isinstance(value, dict):
        raise PlainError(f"{where}: expected an object, got {type(value).__name__}")
    hints, fields = _types_of(typing.cast(Hashable, cls))  # mypy does not know that classes are
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise PlainError(f"{where}: unknown field {unknown[0]!r}")
    made = {}
    for name, field in fields.items():
        if name in value:
            made[name] = from_plain(hints[name], value[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise PlainError(f"{where}: field {name!r} is missing")
    return cls(**made)
