"""The real engine: loads a model with mlx-lm and writes replies with it. Everything in here runs on one thread."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step, wired_limit
from mlx_lm.sample_utils import make_sampler

from app.chat.figures import CacheFigures, MachineFacts, ReplyFigures
from app.chat.model_name import model_name
from app.chat.options import Sampling
from app.chat.shortage import Shortage
from app.engine.budget import WATCHED_TOKENS, OverBudgetError, ReplyBudget, Watch, opened_anyway
from app.engine.cache_figures import cache_figures
from app.engine.cache_plan import make_caches
from app.engine.conversation_cache import ConversationCache, ConversationCaches
from app.engine.estimate import config_needs, folder_needs
from app.engine.fit import prefill_chunk, require_fit
from app.engine.footprint import process_footprint
from app.engine.machine import machine_facts, memory_figures
from app.engine.model_files import read_config
from app.engine.model_folder import Calibrating, OpenModel, open_model
from app.engine.prompt import prompt_tokens
from app.engine.protocol import (
    Counted,
    CountTokens,
    Emit,
    Estimate,
    Estimated,
    Finished,
    Generate,
    Load,
    Loaded,
    Loading,
    Measure,
    Measured,
    Measuring,
    Prefill,
    Progress,
    Token,
)
from app.engine.quality import QualityStoppedError, measure_deployed
from app.engine.quality_text import text_of
from app.errors import NibbleError
from kernels import dispatch

_POOL_LIMIT_BYTES = 512 * 1024**2
"""MLX's default lets freed buffers fill nearly all memory; comparisons of memory would measure that pool."""
_PROGRESS_EVERY_S = 0.25


class MlxEngine:
    """Implements `app.engine.protocol.Engine` with mlx-lm."""

    def __init__(self, calibrations: Path | None = None) -> None:
        """Keep calibrations in the folder `calibrations`; where there is none, do not calibrate."""
        self._calibrations = calibrations
        self._open: OpenModel | None = None
        self._conversations: ConversationCaches | None = None
        self._budget_bytes = 0
        self._in_spite = False
        """Whether the open model was opened although it does not fit."""
        self._beside_bytes = 0
        """What the process took beside MLX as the model was opened."""

    def machine(self) -> MachineFacts:
        """Return what this process runs on."""
        return machine_facts()

    def load(self, request: Load, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Open a model folder. Raises NibbleError, also when stopped; the model before it is then open again.

        What is stopped while it calibrates is the calibration alone. Two models are never in memory at a time.
        """
        path = Path(request.path).expanduser()
        read_config(path)  # most mistakes end here, before anything is given up
        mx.set_cache_limit(_POOL_LIMIT_BYTES)
        opening = _Opening(request.request_id, emit, cancelled)
        if not request.anyway:
            opening.step("Finding out what it takes")
            needs = folder_needs(path).within(self._budget_bytes)
            require_fit(needs, model_name(path), request.cache_mode, request.group_size)
        before = self._open.facts.path if self._open is not None else None
        self._drop_model()
        try:
            self._adopt(open_model(path, opening.step, opening.calibrating(self._calibrations)))
        except Exception:
            if before is not None:
                again = _Opening(request.request_id, lambda _: None, lambda: True)
                self._adopt(open_model(Path(before), lambda _: None, again.calibrating(self._calibrations)))
            raise
        assert self._open is not None
        self._in_spite = request.anyway
        emit(Loaded(request.request_id, self._open.facts))

    def estimate(self, request: Estimate, emit: Emit) -> None:
        """Build a model's graph without reading a weight. Raises NibbleError where that cannot be done."""
        needs = folder_needs(Path(request.path).expanduser()) if request.path else config_needs(request.config)
        emit(Estimated(request.request_id, needs))

    def generate(self, request: Generate, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Write a reply. Raises NibbleError where no model is open or the conversation does not fit."""
        begun = time.perf_counter()
        if self._open is None or self._conversations is None:
            raise NibbleError("No model is open.", "Choose a model first.")
        options = request.options
        prompt = prompt_tokens(self._open.tokenizer, request.messages, options.system_prompt)
        if max(prompt, default=0) >= self._open.vocabulary:
            raise NibbleError(
                f"The tokenizer makes a token of this conversation that {self._open.facts.name} does not know.",
                "Leave out special words such as those for pictures, or fetch the model's tokenizer again.",
            )
        limit = self._open.facts.context_limit_tokens
        if len(prompt) >= limit:
            raise NibbleError(
                f"This conversation has {len(prompt):,} tokens; {self._open.facts.name} can read {limit:,}.",
                "Start a new chat, or shorten the message.",
            )
        cache, reused = (
            self._conversations.take(request.chat_id, options.cache_mode, options.group_size, prompt)
            if request.reuse_cache
            else (self._conversations.fresh(options.cache_mode, options.group_size), 0)
        )
        budget = self._reply_budget(self._open, self._conversations, request)
        try:
            budget.require(len(prompt) + 1)
        except OverBudgetError:
            if reused and request.reuse_cache:
                self._conversations.give_back(request.chat_id, cache)  # a shorter message may follow
            raise
        reply = _Reply(self._open, request, cache, prompt, reused, begun, budget, emit, cancelled)
        with _memory_for(
            "go on with this conversation", "Switch to int4, shorten the conversation, or choose a smaller model."
        ):
            reply.write()
        if request.reuse_cache:
            self._conversations.give_back(request.chat_id, cache)
        emit(reply.finished())
        del reply, cache
        mx.clear_cache()

    def measure(self, request: Measure, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Measure quality with the open model's own calibration. Raises NibbleError, also when stopped."""
        if self._open is None:
            raise NibbleError("No model is open.", "Choose a model first.")
        text = text_of(request.text)
        try:
            with _memory_for("measure this model", "Choose a smaller effort, or close other programs."):
                report = measure_deployed(
                    self._open,
                    text,
                    request.effort,
                    lambda share, step: emit(Measuring(request.request_id, share, step)),
                    cancelled,
                )
        except QualityStoppedError:
            raise NibbleError("Measuring was stopped.") from None
        finally:
            mx.clear_cache()
        emit(Measured(request.request_id, report))

    def count_tokens(self, request: CountTokens, emit: Emit) -> None:
        """Count with the open model's tokenizer. Raises NibbleError where no model is open."""
        if self._open is None:
            raise NibbleError("No model is open.", "Choose a model first.")
        tokens = self._open.tokenizer.encode(request.text, add_special_tokens=False)
        emit(Counted(request.request_id, len(tokens)))

    def forget(self, chat_id: str) -> None:
        """Drop the KV cache of a conversation."""
        if self._conversations is not None:
            self._conversations.forget(chat_id)
            mx.clear_cache()

    def set_budget(self, budget_bytes: int) -> None:
        """Take another budget; 0 is the machine's own."""
        self._budget_bytes = budget_bytes

    def close(self) -> None:
        """Let go of everything. Without clearing its streams, MLX 0.32 may abort at exit."""
        self._drop_model()
        mx.synchronize()
        mx.clear_streams()

    def _adopt(self, opened: OpenModel) -> None:
        self._open = opened
        self._conversations = ConversationCaches(
            lambda mode, group_size: make_caches(opened.model, opened.plan, mode, group_size, opened.calibration)
        )
        mx.clear_cache()
        self._beside_bytes = max(0, process_footprint()[0] - mx.get_active_memory())

    def _reply_budget(self, opened: OpenModel, held: ConversationCaches, request: Generate) -> ReplyBudget:
        assert opened.facts.outlook is not None
        outlook = opened.facts.outlook.within(self._budget_bytes)
        if self._in_spite:
            outlook = opened_anyway(outlook, machine_facts().memory_bytes)
        return ReplyBudget(opened.facts, outlook, request.options, held, Watch(self._process_takes, mx.clear_cache))

    def _process_takes(self) -> int:
        return process_footprint()[0] - self._beside_bytes

    def _drop_model(self) -> None:
        self._open = None
        self._conversations = None
        mx.clear_cache()


@contextmanager
def _memory_for(what: str, hint: str) -> Iterator[None]:
    """Say in a sentence that memory does not suffice. Raises NibbleError."""
    try:
        yield
    except RuntimeError as error:
        if "alloc" not in str(error).lower():
            raise
        raise NibbleError(f"There is not enough memory to {what}.", hint) from error


class _Opening:
    """What is told of a model being opened, and how it is stopped."""

    def __init__(self, request_id: str, emit: Emit, cancelled: Callable[[], bool]) -> None:
        self._request_id = request_id
        self._emit = emit
        self._cancelled = cancelled
        self._skipped = False

    def step(self, name: str) -> None:
        """Tell the next step. Raises NibbleError when stopped."""
        if self._cancelled() and not self._skipped:
            raise NibbleError("Opening the model was stopped.")
        self._emit(Loading(self._request_id, name, -1.0))

    def calibrating(self, folder: Path | None) -> Calibrating | None:
        """Return how this opening calibrates."""
        return Calibrating(folder, self._tell_share, self._skip) if folder else None

    def _tell_share(self, share: float) -> None:
        self._emit(Loading(self._request_id, "Calibrating", share))

    def _skip(self) -> bool:
        """Return whether to skip calibration; being told to stop has been heeded then."""
        self._skipped = self._cancelled()
        return self._skipped


class _CancelledError(Exception):
    """Raised inside mlx-lm's prefill to leave it."""


class _Reply:
    """One reply in the making: the clock, the text and the tokens so far."""

    def __init__(
        self,
        opened: OpenModel,
        request: Generate,
        cache: ConversationCache,
        prompt: list[int],
        reused: int,
        begun: float,
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
        self.first_token = 0.0
        self.last_token = 0.0

    def write(self) -> None:
        """Prefill and decode; leaves the conversation's cache with exactly the tokens it was fed."""
        mx.reset_peak_memory()
        mx.random.seed(self.seed)
        self.cache.tokens = self.prompt[: self.reused]
        try:
            with wired_limit(self.opened.model):
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
        steps.close()
        # The step that was begun ahead must be over before its cache is trimmed, saved or dropped.
        mx.eval([c.state for c in self.cache.caches])
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
        self.emit(Prefill(self.request.request_id, done, total, self.reused))
        if done < total:
            reading_s = time.perf_counter() - self.begun
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
        return ttft, (len(self.prompt) - self.reused) / ttft, decoded / decoding if decoded else 0.0

    def _progress(self, ttft_s: float, prefill_tokens_per_s: float, decode_tokens_per_s: float) -> Progress:
        return Progress(
            self.request.request_id,
            self._cache_figures(),
            memory_figures(),
            len(self.token_ids),
            ttft_s,
            prefill_tokens_per_s,
            decode_tokens_per_s,
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
        )


def _sampler(sampling: Sampling) -> Any:
    return make_sampler(temp=sampling.temperature, top_p=sampling.top_p, min_p=sampling.min_p, top_k=sampling.top_k)
