"""Chats that grow beyond the memory budget, through a real child process: the fake engine's and the real one's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.chat.figures import ModelFacts
from app.chat.options import CacheMode, ChatOptions
from app.chat.outlook import SET_BUDGET
from app.engine.child import EngineChild
from app.engine.command import EngineKind, engine_command
from app.engine.protocol import Failed, Forget, Load, Loaded, Prefill, Ready, SetBudget, Token
from tests.engine.child_chat import Chat, finished, with_sampling
from tests.tiny_model import write_tiny_model

OPTIONS = with_sampling(ChatOptions(), temperature=0.0, max_tokens=900)
IN_FP16 = replace(OPTIONS, cache_mode=CacheMode.FP16)
LONG_REPLY = "[tokens 900] Tell me a long story."
"""A prompt whose reply goes on for hundreds of tokens, with either engine."""


@pytest.fixture(scope="module", params=["fake", "child"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    kind: EngineKind = request.param
    folder: Path = tmp_path_factory.mktemp("models") / "tiny"
    # Eight layers: in fewer the one that int4 expands for a prompt outweighs what it saves.
    write_tiny_model(folder, num_hidden_layers=8, max_position_embeddings=4096)
    with EngineChild(engine_command(kind)) as child:
        assert isinstance(child.event(), Ready)
        loaded = child.ask(Load("l", str(folder)))[-1]
        assert isinstance(loaded, Loaded)
        yield child, loaded.model
        assert child.quit() == 0


@pytest.fixture
def child(opened: tuple) -> Iterator[EngineChild]:
    child = opened[0]
    yield child
    child.send(SetBudget(0))


@pytest.fixture
def model(opened: tuple) -> ModelFacts:
    return opened[1]


@pytest.fixture
def chat(child: EngineChild, request: pytest.FixtureRequest) -> Iterator[Chat]:
    chat = Chat(child, request.node.name)
    yield chat
    child.send(Forget(chat.chat_id))


def budget_for(model: ModelFacts, tokens: int, mode: CacheMode = CacheMode.INT4) -> int:
    """Return the bytes in which a chat of `tokens` tokens just fits."""
    assert model.outlook is not None
    return model.weight_bytes + model.outlook.chat_bytes(tokens, mode, 32)


def test_a_message_beyond_the_budget_is_refused_with_the_numbers_and_answered_within_a_higher_one(
    child: EngineChild, model: ModelFacts, chat: Chat
) -> None:
    budget = budget_for(model, 1) - 1
    child.send(SetBudget(budget))
    (failed,) = chat.events("Hello.", OPTIONS)
    assert isinstance(failed, Failed)
    assert not failed.detail
    assert not failed.can_override
    shortage = failed.shortage
    assert shortage is not None
    assert (shortage.budget_bytes, shortage.budget_source) == (budget, SET_BUDGET)
    assert (shortage.weight_bytes, shortage.mode, shortage.own_tokens) == (model.weight_bytes, CacheMode.INT4, 0)
    assert shortage.needed_bytes == budget_for(model, shortage.tokens)
    assert f"A chat of {shortage.tokens:,} tokens takes" in failed.message
    assert "raise the memory budget" in failed.hint
    child.send(SetBudget(shortage.needed_bytes))
    events = chat.events("Hello.", OPTIONS)
    assert finished(events).token_ids
    assert finished(events).figures.prompt_tokens + 1 == shortage.tokens


def test_a_reply_is_stopped_where_the_budget_ends_and_its_text_and_figures_are_kept(
    child: EngineChild, model: ModelFacts, chat: Chat
) -> None:
    assert model.outlook is not None
    child.send(SetBudget(budget_for(model, 90)))
    # The fake's caches grow 256 tokens at a time and need nothing to work in.
    longest = model.outlook.within(budget_for(model, 90)).longest(model.weight_bytes, 4096, CacheMode.INT4, 32)
    assert longest in (90, 256)
    events = chat.events(LONG_REPLY, OPTIONS)
    reply = finished(events)
    assert reply.figures.finish_reason == "memory"
    assert reply.text == "".join(e.text for e in events if isinstance(e, Token))
    assert len(reply.token_ids) == reply.figures.generated_tokens > 20
    assert reply.figures.prompt_tokens + len(reply.token_ids) == reply.figures.cache.tokens == longest
    assert reply.shortage is not None
    assert (reply.shortage.tokens, reply.shortage.own_tokens) == (longest + 1, longest)
    assert reply.shortage.needed_bytes > reply.shortage.budget_bytes
    assert not reply.shortage.process_bytes
    child.send(SetBudget(0))
    again = finished(chat.events(LONG_REPLY, with_sampling(OPTIONS, max_tokens=50)))
    assert (again.figures.finish_reason, again.shortage) == ("length", None)
    assert again.figures.reused_tokens == reply.figures.prompt_tokens - 1, "the cache was kept"


def test_a_chat_in_fp16_that_does_not_fit_goes_on_in_int4(child: EngineChild, model: ModelFacts, chat: Chat) -> None:
    question = "once upon a time " * 30
    tokens = finished(chat.events(question, with_sampling(IN_FP16, max_tokens=1))).figures.prompt_tokens
    budget = budget_for(model, tokens + 40)
    assert budget < budget_for(model, tokens + 1, CacheMode.FP16)
    child.send(SetBudget(budget))
    failed = chat.events(question, IN_FP16)[-1]
    assert isinstance(failed, Failed)
    assert failed.shortage is not None
    assert failed.shortage.int4_would_fit
    assert failed.shortage.int4_bytes == budget_for(model, tokens + 1)
    reply = finished(chat.events(question, with_sampling(OPTIONS, max_tokens=20)))
    assert reply.token_ids
    assert reply.figures.finish_reason != "memory"


def test_other_chats_caches_go_before_a_chat_is_stopped(child: EngineChild, model: ModelFacts, chat: Chat) -> None:
    """The oldest first, and only as many as must go."""
    short = with_sampling(OPTIONS, max_tokens=8)
    old, new = Chat(child, "old"), Chat(child, "new")
    for other in (old, new):
        finished(other.say("once upon a time " * 10, short))
    assert model.outlook is not None
    held = model.outlook.growth(CacheMode.INT4, 32).bytes_at(256)
    child.send(SetBudget(budget_for(model, 120) + held))
    reply = finished(chat.events(LONG_REPLY, with_sampling(OPTIONS, max_tokens=60)))
    assert (reply.figures.finish_reason, reply.shortage) == ("length", None)
    child.send(SetBudget(0))
    reused = {}
    for name, other in (("old", old), ("new", new)):
        (*_, prefill) = [e for e in other.say("And then?", short) if isinstance(e, Prefill)]
        reused[name] = prefill.reused_tokens
        child.send(Forget(other.chat_id))
    assert reused["old"] == 0
    assert reused["new"] > 20


def test_a_message_that_nothing_makes_fit_costs_no_other_chat_its_cache(
    child: EngineChild, model: ModelFacts, chat: Chat
) -> None:
    other = Chat(child, "other")
    short = with_sampling(OPTIONS, max_tokens=8)
    finished(other.say("once upon a time " * 10, short))
    child.send(SetBudget(budget_for(model, 64)))
    assert isinstance(chat.events("once upon a time " * 70, OPTIONS)[-1], Failed)
    child.send(SetBudget(0))
    assert finished(other.say("And then?", short)).figures.reused_tokens > 20
    child.send(Forget(other.chat_id))
