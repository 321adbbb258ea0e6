"""What the budget of one reply lets through, and the watch on the process, with a scripted footprint."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from app.chat.figures import ModelFacts
from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions
from app.chat.outlook import CacheGrowth, Int4Growth, LayerGrowth, Outlook, WorkingSet
from app.engine import mlx_engine
from app.engine.budget import (
    WATCH_SLACK_BYTES,
    WATCHED_TOKENS,
    OverBudgetError,
    ReplyBudget,
    Watch,
    opened_anyway,
)
from app.engine.mlx_engine import MlxEngine
from app.engine.protocol import Finished, Generate, Load, Loaded, Token
from tests.chat_parts import MODEL
from tests.engine.child_chat import GREEDY, with_sampling
from tests.tiny_model import write_tiny_model

GB = 1_000_000_000
OUTLOOK = Outlook(
    fp16=CacheGrowth((LayerGrowth(1, 4_000_000, 1),)),
    int4=(Int4Growth(32, CacheGrowth((LayerGrowth(1, 1_000_000, 1),))),),
    memory_bytes=2 * GB,
    memory_source="what the test allows",
    work=WorkingSet(fixed_bytes=100_000_000),
)
FACTS = replace(MODEL, weight_bytes=GB, context_limit_tokens=100_000, outlook=OUTLOOK)
"""900 MB are left: 900 tokens in int4, 225 in fp16."""


@dataclass
class Shelf:
    """Other conversations' caches, the oldest first."""

    sizes: list[int] = field(default_factory=list)
    taken: int = 0
    pool: int = 0
    pool_freed: int = 0

    @property
    def held_bytes(self) -> int:
        return sum(self.sizes)

    def drop_oldest(self) -> bool:
        if self.sizes:
            self.taken -= self.sizes.pop(0)
            return True
        return False

    def free_pool(self) -> None:
        self.pool_freed += 1
        self.pool = 0

    def budget(self, mode: CacheMode = CacheMode.INT4, facts: ModelFacts = FACTS) -> ReplyBudget:
        watch = Watch(lambda: self.taken + self.pool, self.free_pool)
        return ReplyBudget(facts, OUTLOOK, ChatOptions(mode), self, watch)


def test_a_chat_may_grow_to_what_the_outlook_says() -> None:
    budget = Shelf().budget()
    assert OUTLOOK.longest(GB, 100_000, CacheMode.INT4, 32) == 900
    assert budget.has_room(900)
    assert not budget.has_room(901)
    budget.require(900)
    with pytest.raises(OverBudgetError, match=r"901 tokens takes 2\.00 GB") as refused:
        budget.require(901)
    shortage = refused.value.shortage
    assert (shortage.weight_bytes, shortage.cache_bytes, shortage.work_bytes) == (GB, 901_000_000, 100_000_000)
    assert (shortage.needed_bytes, shortage.own_tokens) == (2_001_000_000, 900)
    assert not shortage.int4_would_fit


def test_in_fp16_it_is_said_what_int4_would_take() -> None:
    shortage = Shelf().budget(CacheMode.FP16).shortage(226)
    assert shortage.int4_would_fit
    assert (shortage.int4_tokens, shortage.int4_bytes) == (900, 1_326_000_000)
    assert not replace(shortage, tokens=900).int4_would_fit, "it could not go on"


def test_other_caches_go_one_after_the_other_as_the_chat_grows() -> None:
    shelf = Shelf([300_000_000, 200_000_000])
    budget = shelf.budget()
    assert budget.has_room(400)
    assert (shelf.sizes, shelf.pool_freed) == ([300_000_000, 200_000_000], 0)
    assert budget.has_room(401)
    assert (shelf.sizes, shelf.pool_freed) == ([200_000_000], 1)
    assert not budget.has_room(901)
    assert shelf.sizes == [200_000_000], "nothing is dropped for what does not fit in any case"
    assert budget.has_room(900)
    assert shelf.sizes == []


def test_a_process_that_holds_too_much_lets_go_of_the_pool_then_of_the_caches() -> None:
    most = 2 * GB + WATCH_SLACK_BYTES
    shelf = Shelf([300_000_000, 200_000_000], taken=most)
    budget = shelf.budget()
    assert not budget.process_passes()
    assert shelf.pool_freed == 0
    shelf.pool = 1
    assert not budget.process_passes()
    assert (shelf.pool_freed, len(shelf.sizes)) == (1, 2)
    shelf.taken += 100
    assert not budget.process_passes()
    assert shelf.sizes == [200_000_000]
    shelf.taken += GB
    assert budget.process_passes()
    assert shelf.sizes == []
    shortage = budget.shortage(500, by_process=True)
    assert shortage.process_bytes == shelf.taken
    assert shortage.needed_bytes == shelf.taken
    assert "the engine's process holds" in shortage.text


def test_a_model_opened_anyway_may_use_the_whole_machine_and_no_more() -> None:
    whole = opened_anyway(OUTLOOK, 8 * GB)
    assert (whole.memory_bytes, whole.work) == (8 * GB, OUTLOOK.work)
    assert "opened anyway" in whole.memory_source
    assert opened_anyway(OUTLOOK.within(9 * GB), 8 * GB).memory_bytes == 9 * GB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


class Desk:
    """The real engine in this process, with a footprint that the test writes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.grown = 0
        monkeypatch.setattr(mlx_engine, "process_footprint", lambda: (GB + self.grown, "as the test says"))
        self.engine = MlxEngine()
        self.events: list = []
        self.engine.load(Load("l", str(folder)), self.events.append, lambda: False)
        loaded = self.events[-1]
        assert isinstance(loaded, Loaded)
        self.model = loaded.model

    def ask(self, text: str, tokens: int, chat_id: str = "chat") -> Finished:
        options = with_sampling(GREEDY, max_tokens=tokens)
        request = Generate("g", chat_id, (Message(Role.USER, text),), options)
        self.engine.generate(request, self._hear, lambda: False)
        finished = self.events[-1]
        assert isinstance(finished, Finished)
        return finished

    def _hear(self, event: object) -> None:
        self.events.append(event)


@pytest.fixture
def desk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(folder, monkeypatch)


def test_a_reply_is_stopped_by_the_processs_own_footprint(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system counts it: in MLX's sums there is room."""

    def grow(event: object) -> None:
        desk.events.append(event)
        if isinstance(event, Token):
            desk.grown = 2 * GB + WATCH_SLACK_BYTES

    desk.engine.set_budget(GB)
    desk.ask("Another chat.", 4, "other")
    monkeypatch.setattr(desk, "_hear", grow)
    reply = desk.ask("Hello.", 100)
    assert reply.figures.finish_reason == "memory"
    assert len(reply.token_ids) == WATCHED_TOKENS
    assert reply.text
    assert reply.shortage is not None
    assert reply.shortage.process_bytes > GB
    assert reply.shortage.budget_bytes == GB
    assert desk.engine._conversations is not None
    assert list(desk.engine._conversations._kept) == ["chat"], "the other chat's cache went first"


def test_a_prompt_is_given_up_as_the_process_grows(desk: Desk) -> None:
    desk.engine.set_budget(GB)
    desk.grown = 2 * GB + WATCH_SLACK_BYTES
    with pytest.raises(OverBudgetError, match="the engine's process holds"):
        desk.ask("Hello.", 100)
    desk.grown = 0
    assert desk.ask("Hello.", 10).figures.finish_reason == "length"


def test_a_model_opened_anyway_still_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, events = MlxEngine(), []
    engine.set_budget(1000)
    engine.load(Load("l", str(folder), anyway=True), events.append, lambda: False)
    request = Generate("g", "chat", (Message(Role.USER, "Hello."),), GREEDY)
    engine.generate(request, events.append, lambda: False)
    assert isinstance(events[-1], Finished)
    assert events[-1].figures.finish_reason == "length"
