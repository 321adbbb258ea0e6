"""The real engine: loads a model with mlx-lm and writes replies with it. Everything in here runs on one thread."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

from app.chat.figures import MachineFacts
from app.chat.model_name import model_name
from app.engine.budget import OverBudgetError, ReplyBudget, Watch, opened_anyway
from app.engine.cache_plan import make_caches
from app.engine.cache_store import CacheStore, identity_of
from app.engine.conversation_cache import (
    LEAVE_S,
    PAUSE_SHARE,
    CacheDisk,
    ConversationCaches,
    until,
)
from app.engine.estimate import config_needs, folder_needs
from app.engine.fit import require_fit
from app.engine.footprint import process_footprint
from app.engine.machine import machine_facts
from app.engine.mlx_reply import MlxReply
from app.engine.model_files import read_config
from app.engine.model_folder import Calibrating, OpenModel, open_model
from app.engine.prompt import prompt_tokens
from app.engine.protocol import (
    Counted,
    CountTokens,
    Emit,
    Estimate,
    Estimated,
    Generate,
    KeepCaches,
    Load,
    Loaded,
    Loading,
    Measure,
    Measured,
    Measuring,
)
from app.engine.quality import QualityStoppedError, measure_deployed
from app.engine.quality_text import text_of
from app.errors import NibbleError
from kernels.memory import is_want_of_memory

_log = logging.getLogger(__name__)

_POOL_LIMIT_BYTES = 512 * 1024**2
"""MLX's default lets freed buffers fill nearly all memory; comparisons of memory would measure that pool."""


class MlxEngine:
    """Implements `app.engine.protocol.Engine` with mlx-lm."""

    def __init__(self, calibrations: Path | None = None) -> None:
        """Keep calibrations in the folder `calibrations`; where there is none, do not calibrate."""
        self._calibrations = calibrations
        self._open: OpenModel | None = None
        self._conversations: ConversationCaches | None = None
        self._store: CacheStore | None = None
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
            with _memory_for(f"open {model_name(path)}", "Choose a smaller model, or close other programs."):
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
        taking = time.perf_counter()
        cache, reused = (
            self._conversations.take(request.chat_id, options.cache_mode, options.group_size, prompt)
            if request.reuse_cache
            else (self._conversations.fresh(options.cache_mode, options.group_size), 0)
        )
        took_s = time.perf_counter() - taking
        budget = self._reply_budget(self._open, self._conversations, request)
        try:
            budget.require(len(prompt) + 1)
        except OverBudgetError:
            if reused and request.reuse_cache:
                self._conversations.give_back(request.chat_id, cache)  # a shorter message may follow
            raise
        reply = MlxReply(self._open, request, cache, prompt, reused, begun, took_s, budget, emit, cancelled)
        with _memory_for(
            "go on with this conversation", "Switch to int4, shorten the conversation, or choose a smaller model."
        ):
            reply.write()
        emit(reply.finished())
        if request.reuse_cache:
            self._conversations.give_back(request.chat_id, cache)
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
        if self._store is not None:
            self._store.forget(chat_id)

    def keep_caches(self, request: KeepCaches) -> None:
        """Keep int4 caches in a folder within a bound, and tidy it; with a bound of 0 it is emptied."""
        store = CacheStore(Path(request.folder), request.limit_bytes)
        store.tidy(request.chat_ids)
        self._store = store if request.limit_bytes else None
        self._use_disk()

    def rest(self, wanted: Callable[[], bool]) -> None:
        """Save conversations that have grown a good deal since they were last saved."""
        if self._conversations is not None:
            self._conversations.save(PAUSE_SHARE, wanted)

    def set_budget(self, budget_bytes: int) -> None:
        """Take another budget; 0 is the machine's own."""
        self._budget_bytes = budget_bytes

    def close(self) -> None:
        """Save conversations, and let go of everything. Without clearing its streams, MLX 0.32 may abort at exit."""
        self._drop_model()
        mx.synchronize()
        mx.clear_streams()

    def _adopt(self, opened: OpenModel) -> None:
        self._open = opened
        self._conversations = ConversationCaches(
            lambda mode, group_size: make_caches(opened.model, opened.plan, mode, group_size, opened.calibration)
        )
        self._use_disk()
        mx.clear_cache()
        self._beside_bytes = max(0, process_footprint()[0] - mx.get_active_memory())

    def _use_disk(self) -> None:
        if self._open is None or self._conversations is None:
            return
        self._conversations.disk = None
        if self._store is not None:
            try:
                self._conversations.disk = CacheDisk(self._store, identity_of(self._open))
            except (OSError, ValueError):
                _log.warning("no caches are kept on disk: the model's folder cannot be read", exc_info=True)

    def _reply_budget(self, opened: OpenModel, held: ConversationCaches, request: Generate) -> ReplyBudget:
        assert opened.facts.outlook is not None
        outlook = opened.facts.outlook.within(self._budget_bytes)
        if self._in_spite:
            outlook = opened_anyway(outlook, machine_facts().memory_bytes)
        return ReplyBudget(opened.facts, outlook, request.options, held, Watch(self._process_takes, mx.clear_cache))

    def _process_takes(self) -> int:
        return process_footprint()[0] - self._beside_bytes

    def _drop_model(self) -> None:
        if self._conversations is not None:
            self._conversations.save(0.0, until(LEAVE_S))
        self._open = None
        self._conversations = None
        mx.clear_cache()


@contextmanager
def _memory_for(what: str, hint: str) -> Iterator[None]:
    """Say in a sentence that memory does not suffice. Raises NibbleError."""
    try:
        yield
    except RuntimeError as error:
        if not is_want_of_memory(error):
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
