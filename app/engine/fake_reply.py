"""One reply of the fake engine, and the cache that it fills: words in place of tokens."""

import random
import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.chat.figures import CacheFigures, MemoryFigures, ModelFacts, ReplyFigures
from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions
from app.chat.shortage import Shortage
from app.engine.budget import ReplyBudget
from app.engine.fake_answer import MARKDOWN, WORDS, long_answer
from app.engine.fake_script import Script
from app.engine.footprint import process_footprint
from app.engine.protocol import (
    Emit,
    Finished,
    Generate,
    Prefill,
    Progress,
    Token,
)
from app.errors import NibbleError

LAYERS, KV_HEADS, HEAD_SIZE = 4, 2, 64
CAPACITY_STEP = 256
PREFILL_STEP = 8
WEIGHT_BYTES = 2_000_000
PROGRESS_INTERVAL_S = 0.25
END_OF_TEXT = 0
FP16_ROW_BYTES = LAYERS * 2 * KV_HEADS * HEAD_SIZE * 2


@dataclass(slots=True)
class FakeCache:
    """The words a conversation's cache has read, one entry a token."""

    mode: CacheMode
    group_size: int
    words: list[str] = field(default_factory=list)

    def figures(self) -> CacheFigures:
        """Return what a cache of that many tokens takes."""
        tokens = len(self.words)
        capacity = -(-tokens // CAPACITY_STEP) * CAPACITY_STEP
        fp16 = FP16_ROW_BYTES
        own = int4_row_bytes(self.group_size) if self.mode is CacheMode.INT4 else fp16
        return CacheFigures(
            mode=self.mode,
            group_size=self.group_size,
            path="fake",
            tokens=tokens,
            used_bytes=tokens * own,
            allocated_bytes=capacity * own,
            fp16_used_bytes=tokens * fp16,
            fp16_allocated_bytes=capacity * fp16,
            layers_int4=LAYERS if self.mode is CacheMode.INT4 else 0,
            layers_total=LAYERS,
        )


def int4_row_bytes(group_size: int) -> int:
    """Return what a token takes in int4: codes and scales of all layers."""
    return LAYERS * 2 * KV_HEADS * (HEAD_SIZE // 2 + HEAD_SIZE // group_size * 2)


class FakeReply:
    """One reply on its way: reads the prompt into the cache, then writes the text token by token."""

    def __init__(
        self,
        request: Generate,
        model: ModelFacts,
        cache: FakeCache,
        budget: ReplyBudget,
        emit: Emit,
        cancelled: Callable[[], bool],
    ) -> None:
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._started_s = time.monotonic()
        self._request = request
        self._id = request.request_id
        self._model = model
        self._cache = cache
        self._budget = budget
        self._shortage: Shortage | None = None
        self._emit = emit
        self._cancelled = cancelled
        self._script = Script.of(request.messages[-1].text)
        seed = request.options.sampling.seed
        self._seed = random.randrange(2**32) if seed is None else seed
        self._prompt = _prompt_words(request.messages, request.options)
        self._reused = 0
        self._prefilled = 0
        self._prefill_s = 0.0
        self._ttft_s = 0.0
        self._written: list[str] = []
        self._ids: list[int] = []

    def write(self) -> None:
        """Prefill, decode, finish."""
        most = self._model.context_limit_tokens
        if len(self._prompt) >= most:
            raise NibbleError(
                f"The conversation has {len(self._prompt)} tokens; this model reads at most {most}.",
                "Start a new chat, or shorten this one.",
            )
        self._budget.require(len(self._prompt) + 1)
        reason = "cancelled" if not self._prefill() else self._decode()
        self._emit(Finished(self._id, "".join(self._written), tuple(self._ids), self._figures(reason), self._shortage))

    def _prefill(self) -> bool:
        """Read the prompt's new words; return False when cancelled on the way."""
        self._reused = min(_common_prefix(self._cache.words, self._prompt), len(self._prompt) - 1)
        del self._cache.words[self._reused :]
        new = self._prompt[self._reused :]
        self._emit(Prefill(self._id, 0, len(new), self._reused))
        for start in range(0, len(new), PREFILL_STEP):
            self._script.reach("prefill", self._emit)
            if self._cancelled():
                return False
            self._script.pause("prefill-ms", 0)
            step = new[start : start + PREFILL_STEP]
            self._cache.words += step
            self._prefilled += len(step)
            self._prefill_s = self._elapsed_s()
            self._emit(Prefill(self._id, self._prefilled, len(new), self._reused))
            self._show_progress()
        return True

    def _decode(self) -> str:
        """Write tokens; return the finish reason."""
        shown_s = 0.0
        limit = min(self._request.options.sampling.max_tokens, self._model.context_limit_tokens - len(self._prompt))
        for index, word in enumerate(self._words()):
            if index >= limit:
                return "length"
            if index == 1:
                self._script.reach("decode", self._emit)
            if self._cancelled():
                return "cancelled"
            if not self._budget.has_room(len(self._cache.words) + 1):
                self._shortage = self._budget.shortage(len(self._cache.words) + 1)
                return "memory"
            self._script.pause("token-ms", 1)
            self._written.append(word)
            self._ids.append(_token_id(word))
            self._cache.words.append(word)
            self._ttft_s = self._ttft_s or self._elapsed_s()
            self._emit(Token(self._id, word, (self._ids[-1],)))
            if self._elapsed_s() - shown_s >= PROGRESS_INTERVAL_S:
                shown_s = self._elapsed_s()
                self._show_progress()
        self._ids.append(END_OF_TEXT)
        return "stop"

    def _words(self) -> Iterator[str]:
        sampling = self._request.options.sampling
        prompt_text = self._request.messages[-1].text
        if "markdown" in self._script.found:
            length = self._script.found["markdown"]
            yield from words_of(long_answer(int(length)) if length else MARKDOWN)
            return
        seed = 0 if sampling.temperature == 0 else self._seed
        if thoughts := self._script.number("think", 0):
            thinking = random.Random(f"{seed} {prompt_text} thinking")
            yield from ("<think>", "\n", *(f"{thinking.choice(WORDS)} " for _ in range(thoughts)), "</think>", "\n\n")
        parts_at = self._script.number("part", -1) if self._cache.mode is CacheMode.INT4 else -1
        words = random.Random(f"{seed} {prompt_text}")
        for index in range(self._script.number("tokens", 24)):
            if index == parts_at:
                words.seed(f"{seed} {prompt_text} int4")
                yield " otherwise"
            else:
                yield (" " if index else "") + words.choice(WORDS)

    def _show_progress(self) -> None:
        self._emit(
            Progress(
                request_id=self._id,
                cache=self._cache.figures(),
                memory=self._memory(),
                generated_tokens=len(self._ids),
                ttft_s=self._ttft_s,
                prefill_tokens_per_s=self._prefill_speed(),
                decode_tokens_per_s=self._decode_speed(self._elapsed_s()),
            )
        )

    def _figures(self, reason: str) -> ReplyFigures:
        sampling = self._request.options.sampling
        elapsed_s = self._elapsed_s()
        return ReplyFigures(
            model=self._model.name,
            started_at=self._started_at,
            requested_mode=self._request.options.cache_mode,
            cache=self._cache.figures(),
            memory=self._memory(),
            prompt_tokens=len(self._prompt),
            reused_tokens=self._reused,
            prefilled_tokens=self._prefilled,
            generated_tokens=len(self._ids),
            ttft_s=self._ttft_s,
            prefill_tokens_per_s=self._prefill_speed(),
            decode_tokens_per_s=self._decode_speed(elapsed_s),
            elapsed_s=elapsed_s,
            context_limit_tokens=self._model.context_limit_tokens,
            seed=self._seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            max_tokens=sampling.max_tokens,
            finish_reason=reason,
            compute_dtype="float16",
        )

    def _memory(self) -> MemoryFigures:
        active = WEIGHT_BYTES + self._cache.figures().allocated_bytes
        process_bytes, measure = process_footprint()
        return MemoryFigures(active, active, 0, process_bytes, measure)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _prefill_speed(self) -> float:
        return self._prefilled / self._prefill_s if self._prefill_s else 0.0

    def _decode_speed(self, elapsed_s: float) -> float:
        decode_s = elapsed_s - self._ttft_s
        return (len(self._ids) - 1) / decode_s if len(self._ids) > 1 and decode_s else 0.0


def _prompt_words(messages: tuple[Message, ...], options: ChatOptions) -> list[str]:
    """Return the whole prompt as a chat template would lay it out, ending where the reply begins."""
    turns = [Message(Role.SYSTEM, options.system_prompt), *messages] if options.system_prompt else messages
    prompt: list[str] = []
    for turn in turns:
        prompt += [f"<{turn.role}>", *words_of(turn.text), "<end>"]
    return [*prompt, f"<{Role.ASSISTANT}>"]


def words_of(text: str) -> list[str]:
    """Cut a text into words with the white space before them; joined they are the text again."""
    return re.findall(r"\s*\S+|\s+$", text)


def _token_id(word: str) -> int:
    return 1 + zlib.crc32(word.encode()) % 50_000


def _common_prefix(first: list[str], second: list[str]) -> int:
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    return min(len(first), len(second))
