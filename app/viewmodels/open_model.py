"""The model that is open in the engine, or is being opened."""

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from app.chat.figures import ModelFacts
from app.chat.model_name import model_name
from app.engine.protocol import Cancel, Failed, Load, Loaded, Loading, SetBudget
from app.errors import NibbleError
from app.settings.schema import Settings
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.settings_model import SettingsModel

_WEIGHTS = (".safetensors", ".gguf")


def is_meant_as_model(path: Path) -> bool:
    """Return whether a file that is handed to the window is to be opened as a model: a folder, or a file of weights."""
    return path.is_dir() or path.suffix.lower() in _WEIGHTS


class OpenModel(QObject):
    """One model at a time, for all conversations. Its path is "" for the starter that comes with Nibble.

    Where a folder cannot be opened, or opening it is stopped, the model that was open before stays open.
    """

    changed = Signal()
    """Another model is open or being opened, or none is, or opening went a step further."""
    opened = Signal()
    """A model was opened."""
    failed = Signal(str, str, str)
    """The model could not be opened: message, hint, detail. Not told of one that was stopped."""

    refused = Signal(str, str, str)
    """A model was not opened as it does not fit: its path, message, hint. It can be loaded `anyway`."""

    def __init__(
        self, engine: EngineClient, settings: SettingsModel, starter_path: Path, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._settings = settings
        self._starter_path = starter_path
        self._path = settings.settings.model_path
        self._open_path: str | None = None
        self._facts: ModelFacts | None = None
        self._request_id = ""
        self._is_stopping = False
        self._step = ""
        self._engine_is_down = False
        self._is_restarting = False
        self._budget_bytes = settings.settings.memory_budget_bytes
        self._told_budget_bytes = 0
        """What the engine's process was told last; a new one is told nothing yet."""
        settings.changed.connect(self._adopt_settings)
        engine.event_received.connect(self._receive)
        engine.died.connect(self._lose_engine)

    @property
    def facts(self) -> ModelFacts | None:
        """What is known of the model that is open; its outlook is that of the budget in force."""
        if self._facts is None or self._facts.outlook is None:
            return self._facts
        return replace(self._facts, outlook=self._facts.outlook.within(self._budget_bytes))

    @property
    def path(self) -> str:
        """The folder that is open or was asked for; "" is the starter."""
        return self._path

    @property
    def is_starter(self) -> bool:
        """Whether the model is the one that comes with Nibble."""
        return not self._path

    @property
    def is_loading(self) -> bool:
        """Whether a model is being opened."""
        return bool(self._request_id)

    @property
    def engine_is_down(self) -> bool:
        """Whether the engine died and was not started again."""
        return self._engine_is_down

    @property
    def title(self) -> str:
        """What to call the model before its own name is known."""
        return model_name(Path(self._path)) if self._path else "Starter"

    @property
    def progress(self) -> str:
        """How far opening has come, in words; "" when nothing is being opened."""
        if not self._request_id:
            return ""
        return f"Opening {self.title}{self._step}"

    def start(self, path: str = "") -> None:
        """Start the engine and open the model at `path`, or the one that was open last."""
        self._told_budget_bytes = 0
        self._engine.start()
        self.load(path or self._path)

    def restart(self) -> None:
        """Start the engine again, and open the model that was open; one that still runs is killed first."""
        if self._engine.is_running:
            self._is_restarting = True
            self._engine.end("The engine did not answer and was ended.")
            return
        self._start_anew()
        self.load(self._path)

    def load(self, path: str, *, anyway: bool = False) -> None:
        """Open the model folder at `path`, where a new chat fits in memory with it, or `anyway`."""
        if self._engine_is_down:
            self._start_anew()
        self._tell_budget()
        self._path = path
        self._step = ""
        self._is_stopping = False
        self._request_id = self._engine.new_request_id()
        chat = self._settings.settings.chat
        folder = path or str(self._starter_path)
        self._engine.send(Load(self._request_id, folder, anyway, chat.cache_mode, chat.group_size))
        self.changed.emit()

    def cancel(self) -> None:
        """Stop opening a model, as soon as the engine can."""
        if self._request_id and not self._is_stopping:
            self._is_stopping = True
            self._step = ": stopping"
            self._engine.send(Cancel(self._request_id))
            self.changed.emit()

    def _start_anew(self) -> None:
        self._engine_is_down = False
        self._told_budget_bytes = 0
        self._engine.restart()

    def _tell_budget(self) -> None:
        if self._told_budget_bytes != self._budget_bytes:
            self._told_budget_bytes = self._budget_bytes
            self._engine.send(SetBudget(self._budget_bytes))

    def _adopt_settings(self, settings: Settings) -> None:
        if settings.memory_budget_bytes == self._budget_bytes:
            return
        self._budget_bytes = settings.memory_budget_bytes
        if not self._engine_is_down:
            self._tell_budget()
        self.changed.emit()

    def _receive(self, event: object) -> None:
        if not self._request_id or getattr(event, "request_id", None) != self._request_id:
            return
        if isinstance(event, Loading) and not self._is_stopping:
            share = f" ({event.fraction:.0%})" if event.fraction >= 0 else ""
            self._step = f": {event.step}{share}"
        elif isinstance(event, Loaded):
            self._request_id = ""
            self._open_path = self._path
            self._facts = event.model
        asked = self._path
        if isinstance(event, Failed):
            self._settle_on_open_model()
        self.changed.emit()
        if isinstance(event, Failed) and event.can_override and not self._is_stopping:
            self.refused.emit(asked, event.message, event.hint)
        elif isinstance(event, Failed) and not self._is_stopping:
            self.failed.emit(event.message, event.hint, event.detail)
        elif isinstance(event, Loaded):
            self.opened.emit()
            self._remember()

    def _settle_on_open_model(self) -> None:
        self._request_id = ""
        if self._open_path is not None:
            self._path = self._open_path

    def _remember(self) -> None:
        try:
            self._settings.remember_model(self._path)
        except NibbleError as error:
            self.failed.emit(error.message, error.hint, "")

    def _lose_engine(self) -> None:
        # A restart opens what was open, not the model whose opening may have ended the engine.
        self._settle_on_open_model()
        self._open_path = None
        self._engine_is_down = True
        self._facts = None
        self.changed.emit()
        if self._is_restarting:
            self._is_restarting = False
            QTimer.singleShot(0, self, self.restart)  # once all have heard that the engine is gone
