import dataclasses
import math
from typing import Any

import pytest

from app.chat.options import CacheMode, ChatOptions
from app.errors import NibbleError
from app.settings.schema import (
    FIELDS,
    RECENT_MODELS,
    Appearance,
    Settings,
    checked,
    field,
    is_default,
    stepped,
    value_of,
    with_fields_of,
    with_model,
    with_value,
)

NUMBERS = [f for f in FIELDS if f.minimum is not None]


def leaves(cls: type[Any], value: Any, prefix: str) -> list[str]:
    keys = []
    for one in dataclasses.fields(cls):
        inner = getattr(value, one.name)
        key = f"{prefix}.{one.name}"
        keys += leaves(type(inner), inner, key) if dataclasses.is_dataclass(inner) else [key]
    return keys


def test_every_chat_option_has_a_field() -> None:
    chat = [f.key for f in FIELDS if f.key.startswith("chat.")]
    assert sorted(chat) == sorted(leaves(ChatOptions, ChatOptions(), "chat"))
    window = ["appearance", "text_size_percent", "update_check", "saved_caches_gb", "memory_budget_gb"]
    assert [f.key for f in FIELDS if f.key not in chat] == window


def test_choices_with_words_have_one_each() -> None:
    assert all(not f.words or len(f.words) == len(f.choices) for f in FIELDS)


def test_steps_end_at_the_bounds_and_stay_whole_numbers() -> None:
    size = field("text_size_percent")
    assert stepped(Settings(), size.key, 1).text_size_percent == 110
    assert stepped(Settings(), size.key, -2).text_size_percent == 80
    for steps, bound in ((1000, size.maximum), (-1000, size.minimum)):
        moved = stepped(Settings(), size.key, steps).text_size_percent
        assert moved == bound
        assert type(moved) is int


def test_what_a_person_can_set_is_taken_and_nothing_else() -> None:
    other = Settings(model_path="/models/b", appearance=Appearance.DARK, chat=ChatOptions(CacheMode.FP16))
    here = Settings(model_path="/models/a", text_size_percent=150)
    taken = with_fields_of(here, other)
    assert taken == Settings(model_path="/models/a", appearance=Appearance.DARK, chat=ChatOptions(CacheMode.FP16))
    assert not is_default(taken)
    assert is_default(with_fields_of(taken, Settings()))


def test_fields_explain_themselves_and_have_the_defaults_of_the_values() -> None:
    for one in FIELDS:
        assert one.label
        assert one.help.endswith(".")
        assert one.default == value_of(Settings(), one.key)
        assert field(one.key) is one
    with pytest.raises(KeyError):
        field("chat.unheard_of")


def test_defaults_are_allowed() -> None:
    assert checked(Settings()) == Settings()


@pytest.mark.parametrize("one", NUMBERS, ids=lambda f: f.key)
def test_bounds_are_inclusive(one: Any) -> None:
    for value in (one.minimum, one.maximum):
        assert value_of(checked(with_value(Settings(), one.key, value)), one.key) == value


@pytest.mark.parametrize("one", NUMBERS, ids=lambda f: f.key)
def test_values_out_of_bounds_are_refused_with_field_bounds_and_value(one: Any) -> None:
    for value in (one.minimum - 1, one.maximum + 1):
        with pytest.raises(NibbleError) as caught:
            checked(with_value(Settings(), one.key, value))
        said = caught.value.message
        assert one.label in said
        assert f"{one.minimum:g}" in said
        assert f"{one.maximum:.12g}" in said
        assert str(value) in said
        assert caught.value.hint


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(NibbleError, match="Temperature must be from 0 to 2, not nan"):
        checked(with_value(Settings(), "chat.sampling.temperature", math.nan))


def test_only_the_seed_may_be_left_unset() -> None:
    assert value_of(checked(with_value(Settings(), "chat.sampling.seed", None)), "chat.sampling.seed") is None
    with pytest.raises(NibbleError, match="Top-k must be from 0 to 1000, not none"):
        checked(with_value(Settings(), "chat.sampling.top_k", None))


def test_choices_are_kept_to() -> None:
    assert checked(with_value(Settings(), "chat.cache_mode", CacheMode.FP16)).chat.cache_mode is CacheMode.FP16
    with pytest.raises(NibbleError, match="Group size must be 32 or 64, not 48"):
        checked(with_value(Settings(), "chat.group_size", 48))


def test_with_value_changes_one_value_only() -> None:
    changed = with_value(Settings(), "chat.sampling.top_k", 40)
    assert changed.chat.sampling.top_k == 40
    assert with_value(changed, "chat.sampling.top_k", 0) == Settings()


def test_recent_models_are_few_and_newest_first() -> None:
    settings = Settings()
    for i in range(RECENT_MODELS + 3):
        settings = with_model(settings, f"/models/{i}")
    settings = with_model(settings, "/models/5")
    assert settings.model_path == "/models/5"
    assert settings.recent_model_paths[:2] == ("/models/5", f"/models/{RECENT_MODELS + 2}")
    assert len(set(settings.recent_model_paths)) == len(settings.recent_model_paths) == RECENT_MODELS
    assert checked(settings) == settings
    with pytest.raises(NibbleError, match="At most 8 recent models"):
        checked(dataclasses.replace(settings, recent_model_paths=(*settings.recent_model_paths, "/one/more")))


def test_the_starter_takes_no_place_among_recent_models() -> None:
    settings = with_model(with_model(Settings(), "/models/a"), "")
    assert settings.model_path == ""
    assert settings.recent_model_paths == ("/models/a",)
