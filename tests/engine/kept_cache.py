"""A conversation of a random model with its caches on disk, for the tests that look at the file or the folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from app.chat.options import CacheMode
from app.engine.cache_plan import CachePlan, make_caches, plan_cache
from app.engine.cache_store import CacheStore
from tests.tiny_model import build_model

IDENTITY = {"format": "nibble-cache", "version": "1", "model": "a", "calibration": "b", "group_size": "32"}


def never() -> bool:
    return False


def useful(_: list[int]) -> bool:
    return True


def tokens_of(n: int) -> list[int]:
    ids: Any = mx.random.randint(0, 256, (n,), key=mx.random.key(0)).tolist()
    return list(ids)


def read(model: Any, caches: Sequence[Any], tokens: Sequence[int], chunk: int = 40) -> np.ndarray:
    """Let the model read tokens; returns the logits after the last one. Shapes: `[vocabulary]`."""
    for at in range(0, len(tokens), chunk):
        logits = model(mx.array(list(tokens[at : at + chunk]))[None], cache=caches)
        mx.eval(logits, [c.state for c in caches])
    return np.array(logits[0, -1].astype(mx.float32))


def leaves(state: Any) -> list[Any]:
    if isinstance(state, list | tuple):
        return [leaf for item in state for leaf in leaves(item)]
    return [
        (state.shape, state.dtype, np.array(state.view(mx.uint8)).tobytes()) if isinstance(state, mx.array) else state
    ]


def states(caches: Sequence[Any]) -> list[Any]:
    return [leaves(cache.state) for cache in caches]


class Kept:
    """A conversation of a random model that was saved, and what is needed to load it."""

    def __init__(
        self, folder: Path, model_type: str = "qwen2", tokens: int = 150, stop: Callable[[], bool] = never
    ) -> None:
        self.model = build_model(model_type)
        self.plan = plan_cache(self.model)
        self.store = CacheStore(folder / "caches", 10**9)
        self.tokens = tokens_of(tokens)
        self.caches = self.fresh()
        read(self.model, self.caches, self.tokens)
        assert self.save(stop=stop)

    def fresh(self, plan: CachePlan | None = None, group_size: int = 32) -> list[Any]:
        return make_caches(self.model, plan or self.plan, CacheMode.INT4, group_size)

    def save(self, chat_id: str = "chat-1", stop: Callable[[], bool] = never) -> bool:
        return self.store.save(chat_id, IDENTITY, self.tokens, self.caches, stop)

    def load(self, caches: Sequence[Any] | None = None, identity: dict[str, str] = IDENTITY) -> list[int] | None:
        return self.store.load("chat-1", identity, useful, self.fresh() if caches is None else caches)

    @property
    def path(self) -> Path:
        return self.store.path("chat-1")
