"""Frozen values as lines of JSON, for talk over pipes: `type` names the class, the other keys are its fields."""

import json
from typing import Any

from app.chat.plain import PlainError, from_fields, plain_fields


class ProtocolError(ValueError):
    """A line that is no valid request or event; the message says where and why."""


def encode_line(item: Any) -> str:
    """Return `item` as one line of JSON, without the line feed."""
    return json.dumps({"type": type(item).__name__, **plain_fields(item)}, separators=(",", ":"), allow_nan=False)


def decode_line(line: str, allowed: tuple[type[Any], ...]) -> Any:
    """Read a line as one of the classes `allowed`. Raises ProtocolError."""
    try:
        data = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ProtocolError(f"expected an object, got {type(data).__name__}")
    kind = data.pop("type", None)
    cls = next((c for c in allowed if c.__name__ == kind), None)
    if cls is None:
        raise ProtocolError(f"unknown type {kind!r}")
    try:
        return from_fields(cls, data, cls.__name__)
    except PlainError as error:
        raise ProtocolError(str(error)) from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
