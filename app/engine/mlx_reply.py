"""One reply of the real engine: prefill, decode, and what is measured on the way. Runs on the engine's one thread."""

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step, generation_stream, wired_limit
from mlx_lm.sample_utils import make_sampler

from app.chat.figures import CacheFigures, ReplyFigures
from app.chat.options import Sampling
from app.chat.shortage import Shortage
from app.engine.budget import WATCHED_TOKENS, OverBudgetError, ReplyBudget
from app.engine.cache_figures import cache_figures
from app.engine.conversation_cache import ConversationCache
from app.engine.fit import prefill_chunk
from app.engine.machine import memory_figures
from app.engine.model_folder import OpenModel
from app.engine.protocol import Emit, Finished, Generate, Prefill, Progress, Token
from kernels import dispatch

_PROGRESS_EVERY_S = 0.25


class _CancelledError(Exception):
    """Raised inside mlx-lm's prefill to leave it."""


class MlxReply:
    """One reply in the making: the clock, the text and the tokens so far."""

    def __init__(
        self,
        opened: OpenModel,
        request: Generate,
        cache: ConversationCache,
        prompt: list[int],
        reused: int,
        begun: float,
        took_s: float,
        budget: ReplyBudget,
        emit: Emit,
        cancelled: Callable[[], bool],
    ) -> None:
        self.opened = opened
        self.request = request
        self.cache = cache
        self.prompt = prompt
        self.reused = reused
        self.budget = budget
        self.shortage: Shortage | None = None
        self.emit = emit
        self.cancelled = cancelled
        sampling = request.options.sampling
        self.seed = secrets.randbelow(2**31) if sampling.seed is None else sampling.seed
        self.most_tokens = min(sampling.max_tokens, opened.facts.context_limit_tokens - len(prompt))
        self.token_ids: list[int] = []
        self.text: list[str] = []
        self.finish_reason = "length"
        self.started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.begun = begun
        self.took_s = took_s
        """Of the time since, what went to find the cache, from disk perhaps: it is no part of prefill's speed."""
        self.first_token = 0.0
        self.last_token = 0.0

    def write(self) -> None:
        """Prefill and decode; leaves the conversation's cache with exactly the tokens it was fed."""
        mx.reset_peak_memory()
        mx.random.seed(self.seed)
        self.cache.tokens = self.prompt[: self.reused]
        try:
            with wired_limit(self.opened.model, [generation_stream]):
                self._decode()
        except _CancelledError:
            self.finish_reason = "cancelled"

    def finished(self) -> Finished:
        """Return the reply's last event."""
        return Finished(
            self.request.request_id, "".join(self.text), tuple(self.token_ids), self._figures(), self.shortage
        )

    def _decode(self) -> None:
        tokenizer = self.opened.tokenizer
        detokenizer = tokenizer.detokenizer
        steps = generate_step(
            mx.array(self.prompt[self.reused :]),
            self.opened.model,
            max_tokens=self.most_tokens,
            sampler=_sampler(self.request.options.sampling),
            prompt_cache=self.cache.caches,
            prefill_step_size=prefill_chunk(dispatch.backend()),
            prompt_progress_callback=self._on_prefill,
        )
        next_progress = 0.0
        for token, _ in steps:
            self.last_token = time.perf_counter()
            if not self.token_ids:
                self.first_token = self.last_token
            self.token_ids.append(token)
            # generate_step has fed this token already, to work one step ahead.
            self.cache.tokens.append(token)
            if token in tokenizer.eos_token_ids:
                self.finish_reason = "stop"
                break
            detokenizer.add_token(token)
            self._say(detokenizer.last_segment, (token,))
            if self.last_token >= next_progress:
                self.emit(self._progress(*self._speeds()))
                next_progress = self.last_token + _PROGRESS_EVERY_S
            if self.cancelled():
                self.finish_reason = "cancelled"
                break
            if len(self.token_ids) < self.most_tokens and self._is_full():
                self.finish_reason = "memory"
                break
        # The step that was begun ahead must be over before its cache is trimmed, saved or dropped, and before its
        # arrays are let go: on Metal their memory could be another's while the GPU still writes there.
        mx.eval([c.state for c in self.cache.caches])
        mx.synchronize(generation_stream)
        steps.close()
        detokenizer.finalize()
        self._say(detokenizer.last_segment, ())

    def _is_full(self) -> bool:
        """Tell whether the next token would take the chat, or the process, beyond the budget."""
        following = len(self.cache.tokens) + 1
        if not self.budget.has_room(following):
            self.shortage = self.budget.shortage(following)
        elif len(self.token_ids) % WATCHED_TOKENS == 0 and self.budget.process_passes():
            self.shortage = self.budget.shortage(following, by_process=True)
        return self.shortage is not None

    def _say(self, text: str, token_ids: tuple[int, ...]) -> None:
        if text or token_ids:
            self.text.append(text)
            self.emit(Token(self.request.request_id, text, token_ids))

    def _on_prefill(self, done: int, total: int) -> None:
        self.cache.tokens = self.prompt[: self.reused + done]
        self.emit(Prefill(self.request.request_id, done, total, self.reused, self.cache.disk_tokens))
        if done < total:
            reading_s = time.perf_counter() - self.begun - self.took_s
            self.emit(self._progress(0.0, done / reading_s, 0.0))
        if done < total and self.cancelled():
            raise _CancelledError
        if self.budget.process_passes():
            raise OverBudgetError(self.budget.shortage(len(self.prompt) + 1, by_process=True))

    def _cache_figures(self) -> CacheFigures:
        options = self.request.options
        return cache_figures(
            self.cache.caches, self.opened.plan, options.cache_mode, options.group_size, len(self.cache.tokens)
        )

    def _speeds(self) -> tuple[float, float, float]:
        """Return ttft_s, prefill and decode tokens per second; 0 while there is nothing to measure."""
        if not self.token_ids:
            return 0.0, 0.0, 0.0
        ttft = self.first_token - self.begun
        decoding = self.last_token - self.first_token
        decoded = len(self.token_ids) - 1
        return ttft, (len(self.prompt) - self.reused) / (ttft - self.took_s), decoded / decoding if decoded else 0.0

    def _progress(self, ttft_s: float, prefill_tokens_per_s: float, decode_tokens_per_s: float) -> Progress:
        return Progress(
            self.request.request_id,
            self._cache_figures(),
            memory_figures(),
            len(self.token_ids),
            ttft_s,
            prefill_tokens_per_s,
            decode_tokens_per_s,
            self.reused,
            self.cache.disk_tokens,
        )

    def _figures(self) -> ReplyFigures:
        sampling = self.request.options.sampling
        ttft, prefill, decode = self._speeds()
        return ReplyFigures(
            model=self.opened.facts.name,
            started_at=self.started_at,
            requested_mode=self.request.options.cache_mode,
            cache=self._cache_figures(),
            memory=memory_figures(),
            prompt_tokens=len(self.prompt),
            reused_tokens=self.reused,
            prefilled_tokens=len(self.cache.tokens) - self.reused - len(self.token_ids),
            generated_tokens=len(self.token_ids),
            ttft_s=ttft,
            prefill_tokens_per_s=prefill,
            decode_tokens_per_s=decode,
            elapsed_s=(self.last_token or time.perf_counter()) - self.begun,
            context_limit_tokens=self.opened.facts.context_limit_tokens,
            seed=self.seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            max_tokens=sampling.max_tokens,
            finish_reason=self.finish_reason,
            compute_dtype=self.opened.facts.compute_dtype,
            disk_tokens=self.cache.disk_tokens,
        )


def _sampler(sampling: Sampling) -> Any:
    return make_sampler(temp=sampling.temperature, top_p=sampling.top_p, min_p=sampling.min_p, top_k=sampling.top_k)
