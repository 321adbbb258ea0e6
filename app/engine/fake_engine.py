"""An engine without a model: it answers every request of the protocol as the real one does, from a script.

The tests of the window use it. It takes any folder for a model, reads text word by word, keeps the words it has read
per conversation, and replies with a text made from the prompt (and from the seed, unless the temperature is 0). Cache
figures are what a small model with the shape below would have; those of quality are made up (fake_quality.py).
Directives (fake_script.py) make it do what a real engine does on a bad day.
"""

import platform
from collections.abc import Callable
from pathlib import Path

from app import __version__
from app.chat.figures import MachineFacts, ModelFacts
from app.chat.model_name import model_name
from app.chat.options import GROUP_SIZES
from app.chat.outlook import CacheGrowth, Int4Growth, LayerGrowth, Outlook
from app.engine.budget import ReplyBudget, Watch
from app.engine.fake_needs import MEMORY_BYTES, fake_needs
from app.engine.fake_quality import measure_fake
from app.engine.fake_reply import (
    CAPACITY_STEP,
    FP16_ROW_BYTES,
    LAYERS,
    WEIGHT_BYTES,
    FakeCache,
    FakeReply,
    int4_row_bytes,
    words_of,
)
from app.engine.fake_script import Script
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
)
from app.errors import NibbleError, OverridableError

CONTEXT_LIMIT = 4096


class _Held:
    """The words of the conversations that no reply is written in, the one not used for longest first."""

    def __init__(self, caches: dict[str, FakeCache], chat_id: str) -> None:
        self._caches = caches
        self._chat_id = chat_id

    @property
    def held_bytes(self) -> int:
        return sum(cache.figures().allocated_bytes for chat, cache in self._caches.items() if chat != self._chat_id)

    def drop_oldest(self) -> bool:
        oldest = next((chat for chat in self._caches if chat != self._chat_id), None)
        return oldest is not None and bool(self._caches.pop(oldest))


def fake_outlook() -> Outlook:
    """Return what the made-up caches will take: exactly what their figures say at every length."""

    def growth(row_bytes: int) -> CacheGrowth:
        return CacheGrowth((LayerGrowth(LAYERS, row_bytes, CAPACITY_STEP),))

    return Outlook(
        fp16=growth(FP16_ROW_BYTES),
        int4=tuple(Int4Growth(size, growth(int4_row_bytes(size))) for size in GROUP_SIZES),
        memory_bytes=MEMORY_BYTES,
        memory_source="made up by the fake engine",
    )


class FakeEngine:
    """Implements `app.engine.protocol.Engine` without MLX."""

    def __init__(self) -> None:
        self._model: ModelFacts | None = None
        self._caches: dict[str, FakeCache] = {}
        self._budget_bytes = 0

    def machine(self) -> MachineFacts:
        """Return plausible facts about this machine."""
        return MachineFacts(
            machine="Fake",
            memory_bytes=MEMORY_BYTES,
            os=platform.platform(),
            device="cpu",
            backend="cpu",
            nibble_version=__version__,
            python_version=platform.python_version(),
            mlx_version="none",
            mlx_lm_version="none",
        )

    def load(self, request: Load, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Take the folder for a model. Raises NibbleError when there is none; the one before then stays open."""
        folder = Path(request.path)
        script = Script.of(folder.name)
        if "big" in script.found and not request.anyway:
            raise OverridableError(f"{model_name(folder)} does not fit in memory here.", "Choose a smaller model.")
        for fraction, step in ((0.0, "Reading the configuration"), (0.3, "Reading the weights"), (0.9, "Warming up")):
            if cancelled():
                raise NibbleError("Opening the model was stopped.")
            emit(Loading(request.request_id, step, fraction))
            script.pause("load-ms", 0)
            script.reach("load", emit)
            if not folder.is_dir():
                raise NibbleError(f"There is no model folder at {folder}.", "Choose another folder.")
        self._caches.clear()
        self._model = ModelFacts(
            name=model_name(folder),
            path=str(folder),
            architecture="fake",
            parameters=1_000_000,
            weight_bytes=script.number("weights", 0) * 1_000_000 or WEIGHT_BYTES,
            layers=LAYERS,
            context_limit_tokens=script.number("context", CONTEXT_LIMIT),
            compute_dtype="float16",
            int4_layers=LAYERS,
            notes=(),
            remarks=("This is not a model: it replays a script.",),
            outlook=fake_outlook(),
        )
        emit(Loaded(request.request_id, self._model))

    def estimate(self, request: Estimate, emit: Emit) -> None:
        """Say what a model of the config's sizes takes. Raises NibbleError without a config."""
        emit(Estimated(request.request_id, fake_needs(request)))

    def generate(self, request: Generate, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Write the scripted reply. Raises NibbleError without a model and for a prompt beyond the context limit."""
        if self._model is None:
            raise NibbleError("No model is open.", "Open a model first.")
        cache = self._cache_for(request)
        budget = ReplyBudget(
            self._model,
            fake_outlook().within(self._budget_bytes),
            request.options,
            _Held(self._caches, request.chat_id),
            Watch(lambda: 0, lambda: None),
        )
        FakeReply(request, self._model, cache, budget, emit, cancelled).write()

    def measure(self, request: Measure, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Make figures up. Raises NibbleError without a model, for a text that is too short, and when stopped."""
        if self._model is None:
            raise NibbleError("No model is open.", "Open a model first.")
        measure_fake(request, self._model, self.machine(), emit, cancelled)

    def count_tokens(self, request: CountTokens, emit: Emit) -> None:
        """Count words. Raises NibbleError without a model."""
        if self._model is None:
            raise NibbleError("No model is open.", "Open a model first.")
        emit(Counted(request.request_id, len(words_of(request.text))))

    def forget(self, chat_id: str) -> None:
        """Drop the words read for `chat_id`."""
        self._caches.pop(chat_id, None)

    def keep_caches(self, request: KeepCaches) -> None:
        """Keep nothing on disk: words are read again at once."""

    def rest(self, wanted: Callable[[], bool]) -> None:
        """Rest."""

    def set_budget(self, budget_bytes: int) -> None:
        """Take another budget; 0 is the made-up machine's own."""
        self._budget_bytes = budget_bytes

    def close(self) -> None:
        """Drop everything."""
        self._model = None
        self._caches.clear()

    def _cache_for(self, request: Generate) -> FakeCache:
        options = request.options
        empty = FakeCache(options.cache_mode, options.group_size)
        if not request.reuse_cache:
            return empty
        kept = self._caches.pop(request.chat_id, None)
        alike = kept is not None and (kept.mode, kept.group_size) == (options.cache_mode, options.group_size)
        self._caches[request.chat_id] = cache = kept if kept is not None and alike else empty
        return cache
