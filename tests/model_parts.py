"""Needs of a model that never was, for what is said of models."""

from app.chat.fit import ModelNeeds
from app.chat.outlook import CacheGrowth, Int4Growth, LayerGrowth, Outlook, WorkingSet


def needs(budget_bytes: int = 8_000_000_000, **changes: int) -> ModelNeeds:
    """Return needs of 2 GB of weights and 100 KB (28.1 KB in int4) a token, of 100 MB and 1 KB a token of work."""

    def growth(row_bytes: int) -> CacheGrowth:
        return CacheGrowth((LayerGrowth(20, row_bytes, 1),))

    fields = {
        "parameters": 4_020_000_000,
        "stored_bytes": 2_000_000_000,
        "weight_bytes": 2_000_000_000,
        "context_limit_tokens": 40_960,
        "layers": 20,
        "int4_layers": 20,
        **changes,
    }
    int4 = (Int4Growth(32, growth(28_125)), Int4Growth(64, growth(26_500)))
    return ModelNeeds(
        "qwen3",
        **fields,
        outlook=Outlook(
            growth(100_000), int4, budget_bytes, "memory of the test", WorkingSet(100_000_000, 1_000, 2_000)
        ),
    )
