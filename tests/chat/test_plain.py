import json
from dataclasses import dataclass

import pytest

from app.chat.figures import CacheFigures, LayerNote
from app.chat.options import CacheMode, ChatOptions, Sampling
from app.chat.plain import PlainError, from_plain, to_plain

CACHE = CacheFigures(
    mode=CacheMode.INT4,
    group_size=32,
    path="cpu",
    tokens=7,
    used_bytes=10,
    allocated_bytes=20,
    fp16_used_bytes=30,
    fp16_allocated_bytes=40,
    layers_int4=2,
    layers_total=4,
    notes=(LayerNote((0, 3), "no keys"),),
)


@pytest.mark.parametrize(
    "value", [ChatOptions(), ChatOptions(CacheMode.FP16, 64, "Be kind. ü 🙂", Sampling(seed=3)), CACHE]
)
def test_values_survive_json(value: object) -> None:
    text = json.dumps(to_plain(value), allow_nan=False)
    assert from_plain(type(value), json.loads(text)) == value


def test_enums_become_their_values() -> None:
    assert to_plain(ChatOptions())["cache_mode"] == "int4"
    assert type(to_plain(ChatOptions())["cache_mode"]) is str


def test_missing_fields_take_their_defaults() -> None:
    assert from_plain(ChatOptions, {"group_size": 64}) == ChatOptions(group_size=64)


def test_an_int_may_stand_for_a_float_but_not_the_reverse() -> None:
    made = from_plain(Sampling, {"temperature": 1})
    assert type(made.temperature) is float
    with pytest.raises(PlainError, match=r"top_k: expected int, got float"):
        from_plain(Sampling, {"top_k": 1.0})


@pytest.mark.parametrize(
    ("hint", "data", "where"),
    [
        (ChatOptions, [], r"options: expected an object, got list"),
        (ChatOptions, {"grop_size": 32}, r"options: unknown field 'grop_size'"),
        (ChatOptions, {"cache_mode": "int8"}, r"options\.cache_mode: 'int8' is none of \['int4', 'fp16'\]"),
        (ChatOptions, {"cache_mode": []}, r"options\.cache_mode"),
        (ChatOptions, {"sampling": {"seed": "1"}}, r"options\.sampling\.seed: expected int, got str"),
        (ChatOptions, {"sampling": {"top_k": True}}, r"options\.sampling\.top_k: expected int, got bool"),
        (ChatOptions, {"system_prompt": None}, r"options\.system_prompt: expected str, got NoneType"),
        (LayerNote, {"layers": [0, "1"], "reason": ""}, r"options\.layers\[1\]: expected int, got str"),
        (LayerNote, {"layers": {}, "reason": ""}, r"options\.layers: expected a list, got dict"),
        (LayerNote, {"layers": []}, r"options: field 'reason' is missing"),
    ],
)
def test_misfits_are_refused_with_their_place(hint: type, data: object, where: str) -> None:
    with pytest.raises(PlainError, match=where):
        from_plain(hint, data, "options")


def test_only_what_may_be_none_may_be_none() -> None:
    @dataclass(frozen=True)
    class Pair:
        sure: int
        maybe: int | None

    assert from_plain(Pair, {"sure": 1, "maybe": None}) == Pair(1, None)
    with pytest.raises(PlainError, match="sure"):
        from_plain(Pair, {"sure": None, "maybe": 1})
