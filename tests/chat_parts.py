"""Parts for tests of the chat: an engine that says what the test lets it say, and figures to say."""

import itertools
from dataclasses import replace

from PySide6.QtCore import QObject, Signal

from app.chat.figures import CacheFigures, MemoryFigures, ModelFacts, ReplyFigures
from app.chat.options import CacheMode
from app.engine.protocol import Request

MODEL = ModelFacts("Starter", "/m", "qwen2", 27_800_000, 16_000_000, 24, 1024, "bfloat16", 24, ())
CACHE = CacheFigures(CacheMode.INT4, 32, "cpu", 400, 2_812_500, 3_600_000, 10_000_000, 12_800_000, 24, 24)
MEMORY = MemoryFigures(48_000_000, 70_000_000, 0)
FIGURES = ReplyFigures(
    model="Starter",
    started_at="2026-01-01T00:00:00+00:00",
    requested_mode=CacheMode.INT4,
    cache=CACHE,
    memory=MEMORY,
    prompt_tokens=300,
    reused_tokens=0,
    prefilled_tokens=300,
    generated_tokens=4,
    ttft_s=0.2,
    prefill_tokens_per_s=1500.0,
    decode_tokens_per_s=40.0,
    elapsed_s=3.0,
    context_limit_tokens=1024,
    seed=7,
    temperature=0.7,
    top_p=0.9,
    top_k=0,
    min_p=0.0,
    max_tokens=512,
    finish_reason="stop",
)
CANCELLED = replace(FIGURES, finish_reason="cancelled")


class ScriptedEngine(QObject):
    """Stands in for EngineClient; tests emit its events."""

    started_up = Signal(object)
    event_received = Signal(object)
    died = Signal(str, str)
    machine = None

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Request] = []
        self.starts = 0
        self._numbers = itertools.count(1)

    def start(self) -> None:
        self.starts += 1

    restart = start
    is_running = False

    def end(self, reason: str) -> None:
        self.is_running = False
        self.died.emit(reason, "")

    def send(self, request: Request) -> None:
        self.sent.append(request)

    def new_request_id(self) -> str:
        return f"r{next(self._numbers)}"

    def sent_of(self, kind: type) -> list:
        return [request for request in self.sent if isinstance(request, kind)]
