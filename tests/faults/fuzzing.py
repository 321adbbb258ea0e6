"""How the fuzzers draw: the same few examples in `make test`, many new ones where `NIBBLE_FUZZ` names a factor."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FACTOR = int(os.environ.get("NIBBLE_FUZZ", "1"))
MOST_S = 2.0
"""Most processor time that one bad input may take."""


def fuzz(examples: int) -> Callable[[Any], Any]:
    """Draw so many examples, times the factor. Nothing is printed or kept, so that runs are independent."""
    return settings(
        max_examples=examples * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@contextmanager
def soon() -> Iterator[None]:
    """Fail where what runs inside takes too long. Processor time: other programs must not fail a test."""
    begun = time.process_time()
    yield
    took_s = time.process_time() - begun
    assert took_s < MOST_S, f"it took {took_s:.1f} s"


NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400]),
    st.floats(),
)
TEXTS = st.one_of(
    st.text(max_size=30), st.sampled_from(["", "\0", "\ud83d", "\u202e", "../..", "/dev/zero", "x" * 5000, "NaN"])
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)
"""Values as a parser of JSON may give them."""


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """Return JSON that differs from `value` in one place: another value, one that is missing, or one too many."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        match draw(st.integers(0, 7)):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, draw(TEXTS): draw(JSON)}
        return {**value, key: draw(mutated(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], draw(mutated(value[index])), *value[index + 1 :]]
    return draw(JSON)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Return `data` cut short, with a few bytes changed, or with some put in."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(made)))
        match draw(st.integers(0, 2)):
            case 0:
                del made[at:]
            case 1:
                made[at : at + 1] = draw(st.binary(max_size=2))
            case 2:
                made[at:at] = draw(st.binary(max_size=8))
    return bytes(made)
