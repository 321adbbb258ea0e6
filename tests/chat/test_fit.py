"""Bytes of weights, caches and work put together, and the longest chat for which they suffice."""

import pytest

from app.chat.fit import OPEN_TOKENS, ModelNeeds
from app.chat.options import CacheMode
from app.chat.outlook import CacheGrowth, Int4Growth, LayerGrowth, Outlook, WorkingSet


def needs(budget_bytes: int, limit: int = 10_000) -> ModelNeeds:
    """A layer that keeps all, at 100 bytes a row in fp16 and 25 in int4, and one with a window of 1,000 rows."""
    fp16 = CacheGrowth((LayerGrowth(1, 100, 1), LayerGrowth(1, 100, 1, 1000)))
    int4 = CacheGrowth((LayerGrowth(1, 25, 1), LayerGrowth(1, 25, 1, 1000)))
    outlook = Outlook(fp16, (Int4Growth(32, int4),), budget_bytes, "memory", WorkingSet(1_000, 1, 5))
    return ModelNeeds("llama", 10, 4_000, 5_000, limit, 2, 2, outlook)


def test_all_parts_are_counted_by_mode() -> None:
    assert needs(0).bytes_at(3000, CacheMode.FP16, 32) == 5_000 + 3000 * 100 + 1000 * 100 + 1_000 + 3000
    assert needs(0).bytes_at(3000, CacheMode.INT4, 32) == 5_000 + 3000 * 25 + 1000 * 25 + 1_000 + 5 * 3000


def test_a_group_size_that_is_not_on_offer_is_an_error() -> None:
    with pytest.raises(KeyError):
        needs(0).bytes_at(1, CacheMode.INT4, 48)


@pytest.mark.parametrize("mode", CacheMode)
@pytest.mark.parametrize("tokens", [1, 999, 1000, 1001, 9_999])
def test_the_longest_is_exact(mode: CacheMode, tokens: int) -> None:
    budget = needs(0).bytes_at(tokens, mode, 32)
    assert needs(budget).longest(mode, 32) == tokens
    assert needs(budget - 1).longest(mode, 32) == tokens - 1


def test_the_longest_is_never_beyond_the_models_limit() -> None:
    assert needs(10**12).longest(CacheMode.FP16, 32) == 10_000
    assert needs(5_000).longest(CacheMode.FP16, 32) == 0


def test_a_model_opens_where_a_chat_of_some_length_fits_or_of_its_own_where_that_is_less() -> None:
    for limit, tokens in ((10_000, OPEN_TOKENS), (500, 500)):
        budget = needs(0).bytes_at(tokens, CacheMode.INT4, 32)
        assert needs(0, limit).open_tokens() == tokens
        assert needs(budget, limit).can_open(CacheMode.INT4, 32)
        assert not needs(budget - 1, limit).can_open(CacheMode.INT4, 32)
        assert not needs(budget, limit).can_open(CacheMode.FP16, 32)
