import json
import typing
from dataclasses import fields, replace

import pytest

from app.chat.figures import CacheFigures, LayerNote, MachineFacts, MemoryFigures, ModelFacts, ReplyFigures
from app.chat.fit import ModelNeeds
from app.chat.lines import ProtocolError
from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions, Sampling
from app.chat.outlook import CacheGrowth, Int4Growth, LayerGrowth, Outlook, WorkingSet
from app.chat.quality import Effort, QualityReport, TextKind, TextSource, WindowScore, variant_quality
from app.chat.shortage import Shortage
from app.engine import protocol
from app.engine.protocol import (
    Cancel,
    Counted,
    CountTokens,
    Estimate,
    Estimated,
    Event,
    Failed,
    Finished,
    Forget,
    Generate,
    KeepCaches,
    Load,
    Loaded,
    Loading,
    Measure,
    Measured,
    Measuring,
    Prefill,
    Progress,
    Quit,
    Ready,
    Request,
    SetBudget,
    Token,
    decode_event,
    decode_request,
    encode,
)

TEXT = 'line\nfeed, "quotes", \u2028, \x00, 狐 and 🦊'
CACHE = CacheFigures(CacheMode.INT4, 32, "cpu", 10, 100, 200, 400, 700, 3, 4, (LayerNote((3,), "too odd"),))
MEMORY = MemoryFigures(1, 2, 3, 4, "as counted")
FIGURES = ReplyFigures(
    model="tiny",
    started_at="2026-01-01T00:00:00+00:00",
    requested_mode=CacheMode.INT4,
    cache=CACHE,
    memory=MEMORY,
    prompt_tokens=7,
    reused_tokens=3,
    prefilled_tokens=4,
    generated_tokens=3,
    ttft_s=0.25,
    prefill_tokens_per_s=16.0,
    decode_tokens_per_s=8.0,
    elapsed_s=0.5,
    context_limit_tokens=2048,
    seed=1,
    temperature=0.7,
    top_p=0.9,
    top_k=0,
    min_p=0.0,
    max_tokens=512,
    finish_reason="stop",
)
MACHINE = MachineFacts("chip", 1, "os", "gpu", "metal", "0", "3", "0", "0")
GROWTH = CacheGrowth((LayerGrowth(3, 96, 256), LayerGrowth(1, 32, 256, 512), LayerGrowth(1, 0, 1, 0, 64)))
OUTLOOK = Outlook(GROWTH, (Int4Growth(32, GROWTH),), 2**34, "memory", WorkingSet(5, 6, 7))
MODEL = ModelFacts(
    "tiny", "/m", "qwen2", 1, 2, 4, 2048, "float16", 3, (LayerNote((3,), "too odd"),), ("small",), OUTLOOK
)
OPTIONS = ChatOptions(CacheMode.FP16, 64, TEXT, Sampling(seed=3))

REPORT = QualityReport(
    model=MODEL,
    machine=MACHINE,
    measured_at="2026-01-01T00:00:00+00:00",
    compute_dtype="float16",
    calibration="calibration",
    text_name=TEXT,
    text_sha256="ab",
    context_tokens=64,
    scored_tokens=32,
    windows=2,
    variants=(
        variant_quality("fp16", "", 16.0, [WindowScore(8.0, 0.0, 1.0)] * 2),
        variant_quality("ours", TEXT, 4.5, [WindowScore(8.5, 0.01, 0.9), WindowScore(9.0, 0.02, 0.8)], 32),
    ),
    remarks=(TEXT,),
)

SHORTAGE = Shortage(900, CacheMode.FP16, 5, 6, 7, 16, "the budget", 800, 3000, 15)

REQUESTS: list[Request] = [
    Load("1", "/models/a b", True, CacheMode.FP16, 64),
    Generate("2", "chat", (Message(Role.USER, TEXT), Message(Role.ASSISTANT, "")), OPTIONS, False),
    CountTokens("4", TEXT),
    Measure("3", TextSource(TextKind.FILE, "/texts/a b.txt"), Effort(5, 512)),
    Cancel("2"),
    Forget("chat"),
    KeepCaches("/caches/a b", 5_000_000_000, ("chat-1", "chat-2")),
    SetBudget(8_000_000_000),
    Quit(),
    Estimate("5", "", '{"model_type": "qwen2"}'),
]
EVENTS: list[Event] = [
    Ready(protocol.PROTOCOL_VERSION, MACHINE),
    Loading("1", "Reading", -1.0),
    Loaded("1", MODEL),
    Prefill("2", 1, 2, 3, 3),
    Token("2", TEXT, (1, 2)),
    Progress("2", CACHE, MEMORY, 3, 0.5, 10.0, 20.0, 3, 3),
    Finished("2", TEXT, (1, 2, 3), FIGURES),
    Measuring("3", 0.25, "window 1"),
    Measured("3", REPORT),
    Counted("4", 12),
    Finished("2", TEXT, (1,), FIGURES, SHORTAGE),
    Failed("", "what", "hint", "trace\nback", True),
    Failed("2", "what", shortage=SHORTAGE),
    Estimated("5", ModelNeeds("qwen2", 1, 2, 3, 2048, 4, 3, OUTLOOK)),
]


def test_the_examples_are_all_there_is() -> None:
    assert {type(r) for r in REQUESTS} == set(typing.get_args(Request))
    assert {type(e) for e in EVENTS} == set(typing.get_args(Event))


@pytest.mark.parametrize("item", REQUESTS, ids=lambda item: type(item).__name__)
def test_requests_come_back_as_they_were(item: Request) -> None:
    line = encode(item)
    assert len(line.splitlines()) == 1
    assert decode_request(line) == item


@pytest.mark.parametrize("item", EVENTS, ids=lambda item: type(item).__name__)
def test_events_come_back_as_they_were(item: Event) -> None:
    line = encode(item)
    assert len(line.splitlines()) == 1
    assert decode_event(line) == item


@pytest.mark.parametrize("item", REQUESTS, ids=lambda item: type(item).__name__)
def test_a_request_is_no_event(item: Request) -> None:
    with pytest.raises(ProtocolError, match=type(item).__name__):
        decode_event(encode(item))


def test_an_event_is_no_request() -> None:
    with pytest.raises(ProtocolError, match="Token"):
        decode_request(encode(EVENTS[4]))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "not JSON"),
        ('{"type":"Load"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["Load"]', "expected an object"),
        ("{}", "unknown type None"),
        ('{"type":["Load"]}', "unknown type"),
        ('{"type":"Explode"}', "unknown type 'Explode'"),
        ('{"type":"Load","request_id":"1"}', "'path' is missing"),
        ('{"type":"Load","request_id":1,"path":"/"}', "Load.request_id: expected str, got int"),
        ('{"type":"Load","request_id":"1","path":"/","extra":1}', "unknown field 'extra'"),
        ('{"type":"Load","request_id":null,"path":"/"}', "expected str, got NoneType"),
    ],
)
def test_a_line_that_is_no_request_says_why(line: str, why: str) -> None:
    with pytest.raises(ProtocolError, match=why.replace("[", r"\[")):
        decode_request(line)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"options": {"cache_mode": "int3"}}, "Generate.options.cache_mode"),
        ({"options": {"sampling": {"temperature": "hot"}}}, "Generate.options.sampling.temperature"),
        ({"options": {"sampling": {"seed": True}}}, "Generate.options.sampling.seed"),
        ({"messages": [{"role": "user", "text": "a"}, {"role": "fox", "text": "b"}]}, r"Generate.messages\[1\].role"),
        ({"messages": "hello"}, "Generate.messages: expected a list"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], where: str) -> None:
    data = json.loads(encode(REQUESTS[1])) | change
    with pytest.raises(ProtocolError, match=where):
        decode_request(json.dumps(data))


def test_a_whole_number_will_do_for_a_float_and_nan_for_nothing() -> None:
    line = '{"type":"Loading","request_id":"1","step":"s","fraction":%s}'
    assert decode_event(line % "1") == Loading("1", "s", 1.0)
    with pytest.raises(ProtocolError, match="NaN"):
        decode_event(line % "NaN")
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(Loading("1", "s", float("nan")))


def test_fields_with_a_default_may_be_left_out() -> None:
    data = json.loads(encode(REQUESTS[1]))
    del data["reuse_cache"]
    assert decode_request(json.dumps(data)) == replace(typing.cast(Generate, REQUESTS[1]), reuse_cache=True)


def test_every_event_but_ready_says_whose_it_is() -> None:
    for event in EVENTS:
        if not isinstance(event, Ready):
            assert "request_id" in {f.name for f in fields(event)}
