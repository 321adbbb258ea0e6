"""What the window and the engine say to each other: one JSON object a line, `type` names the class.

Requests go down the child's stdin, events come up its stdout. Standard library only, so that both sides may import it.
A `request_id` is chosen by the sender and returned in every event that belongs to the request.
"""

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from app.chat.figures import CacheFigures, MachineFacts, MemoryFigures, ModelFacts, ReplyFigures
from app.chat.fit import ModelNeeds
from app.chat.lines import decode_line, encode_line
from app.chat.message import Message
from app.chat.options import CacheMode, ChatOptions
from app.chat.quality import Effort, QualityReport, TextSource
from app.chat.shortage import Shortage

PROTOCOL_VERSION = 6


# Requests


@dataclass(frozen=True, slots=True)
class Load:
    """Open the model folder at `path` in place of the one that is open.

    Answered by Loading*, then Loaded; or by Failed, also when cancelled: the model that was open before stays open.
    A Cancel during the step "Calibrating" skips that step alone: the model opens, and a remark says so.

    A model that leaves no room for a chat in `cache_mode` is refused before its weights are read (Failed with
    `can_override`), unless it is to be opened `anyway`.
    """

    request_id: str
    path: str
    anyway: bool = False
    cache_mode: CacheMode = CacheMode.INT4
    group_size: int = 32


@dataclass(frozen=True, slots=True)
class Estimate:
    """Say what a model will take on this machine. Answered by Estimated or Failed; the open model stays as it is.

    It stands in the folder `path`; where that is "" it is not here, and `config` is its config.json, as far as sizes
    depend on it.
    """

    request_id: str
    path: str
    config: str = ""


@dataclass(frozen=True, slots=True)
class Generate:
    """Write the next assistant message. Answered by Prefill*, Token*, then Finished or Failed.

    `messages` holds the conversation without its system prompt (that stands in `options`) and ends with a user turn.
    `chat_id` names the KV cache to go on with; with `reuse_cache` False it starts empty and is dropped afterwards.
    """

    request_id: str
    chat_id: str
    messages: tuple[Message, ...]
    options: ChatOptions
    reuse_cache: bool = True


@dataclass(frozen=True, slots=True)
class Measure:
    """Measure on a text what int4 costs the open model in quality, with the constants that its cache has.

    Answered by Measuring*, then Measured; or by Failed, also when cancelled. Conversations keep their caches.
    """

    request_id: str
    text: TextSource
    effort: Effort


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Say how many tokens of the open model a text has. Answered by Counted or Failed."""

    request_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the named request as soon as possible; what was written of a reply so far is kept."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop the KV cache of `chat_id`, on disk too. Not answered; heard even where Quit follows at once."""

    chat_id: str


@dataclass(frozen=True, slots=True)
class KeepCaches:
    """Keep the int4 caches of conversations in files in `folder`, of at most `limit_bytes` together. Not answered.

    Before the first one nothing is kept on disk. Files of conversations that are not among `chat_ids` are deleted now,
    and all of them where `limit_bytes` is 0; nothing is kept then.
    """

    folder: str
    limit_bytes: int
    chat_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetBudget:
    """Hold models and chats within so many bytes from the next request on; 0 is the machine's own. Not answered."""

    budget_bytes: int


@dataclass(frozen=True, slots=True)
class Quit:
    """Finish: cancel what runs, free the model, exit 0. The end of stdin means the same."""


Request = Load | Estimate | Generate | Measure | CountTokens | Cancel | Forget | KeepCaches | SetBudget | Quit


# Events


@dataclass(frozen=True, slots=True)
class Ready:
    """The first event of every engine process."""

    protocol_version: int
    machine: MachineFacts


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress of a Load: what is being done; `fraction` 0..1, or -1 where it cannot be known."""

    request_id: str
    step: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is open."""

    request_id: str
    model: ModelFacts


@dataclass(frozen=True, slots=True)
class Prefill:
    """`done_tokens` of `total_tokens` new prompt tokens are read; `reused_tokens` were in the cache already.

    Of those, `disk_tokens` came from the conversation's file: all or none.
    """

    request_id: str
    done_tokens: int
    total_tokens: int
    reused_tokens: int
    disk_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """New text of the reply. `text` may be empty while a character is incomplete, or hold several tokens' text."""

    request_id: str
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Live figures: after every Prefill, then a few times a second while a reply is written.

    Times and speeds of 0 are not known yet; during prefill `prefill_tokens_per_s` is the speed so far.
    """

    request_id: str
    cache: CacheFigures
    memory: MemoryFigures
    generated_tokens: int
    ttft_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    reused_tokens: int = 0
    """As in Prefill, and so are `disk_tokens`."""
    disk_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The reply is complete, or was cancelled (`figures.finish_reason`). `text` is the whole reply.

    With the finish reason `memory` it was stopped before the chat grew beyond the budget, and `shortage` says why.
    """

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    """All tokens of the reply, the end-of-text token included where the model wrote it."""
    figures: ReplyFigures
    shortage: Shortage | None = None


@dataclass(frozen=True, slots=True)
class Measuring:
    """Progress of a Measure: the share that is done, 0..1, and what is being done."""

    request_id: str
    fraction: float
    step: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What the cache costs in quality, on the text of a Measure."""

    request_id: str
    report: QualityReport


@dataclass(frozen=True, slots=True)
class Counted:
    """How many tokens the text of a CountTokens has, without what a chat template adds around it."""

    request_id: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Estimated:
    """What the model of an Estimate will take."""

    request_id: str
    needs: ModelNeeds


@dataclass(frozen=True, slots=True)
class Failed:
    """A request came to nothing. `hint` says what a person can do; `detail` is a traceback where it is our defect.

    `request_id` is "" where the request itself could not be read. With `can_override` a Load may be asked for again,
    `anyway`. A Generate whose conversation the budget does not hold fails with its `shortage`.
    """

    request_id: str
    message: str
    hint: str = ""
    detail: str = ""
    can_override: bool = False
    shortage: Shortage | None = None


Event = (
    Ready
    | Loading
    | Loaded
    | Estimated
    | Prefill
    | Token
    | Progress
    | Finished
    | Measuring
    | Measured
    | Counted
    | Failed
)

Emit = Callable[[Event], None]


class Engine(Protocol):
    """What runs inside the child; every method is called on one thread.

    `cancelled()` turns True when the running request should stop; `emit` may be called at any time in between.
    Errors a person can mend are raised as NibbleError; the caller turns every exception into Failed.
    """

    def machine(self) -> MachineFacts:
        """Return what this process runs on."""

    def load(self, request: Load, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Open a model; emits Loading*, then Loaded."""

    def estimate(self, request: Estimate, emit: Emit) -> None:
        """Say what a model will take; emits Estimated."""

    def generate(self, request: Generate, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Write a reply; emits Prefill*, Token* and Progress*, then Finished (also when cancelled)."""

    def measure(self, request: Measure, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Measure quality; emits Measuring*, then Measured."""

    def count_tokens(self, request: CountTokens, emit: Emit) -> None:
        """Count; emits Counted."""

    def forget(self, chat_id: str) -> None:
        """Drop the KV cache of a conversation, if there is one."""

    def keep_caches(self, request: KeepCaches) -> None:
        """Keep caches on disk from now on, or no longer."""

    def rest(self, wanted: Callable[[], bool]) -> None:
        """Do what can wait, such as saving caches; leave off, within some tens of milliseconds, once `wanted`."""

    def set_budget(self, budget_bytes: int) -> None:
        """Take another budget; 0 is the machine's own."""

    def close(self) -> None:
        """Let go of the model and of all caches; called once, last."""


# The codec


_REQUESTS = typing.get_args(Request)
_EVENTS = typing.get_args(Event)


def encode(item: Request | Event) -> str:
    """Return `item` as one line of JSON, without the line feed."""
    return encode_line(item)


def decode_request(line: str) -> Request:
    """Read one request. Raises ProtocolError."""
    return typing.cast(Request, decode_line(line, _REQUESTS))


def decode_event(line: str) -> Event:
    """Read one event. Raises ProtocolError."""
    return typing.cast(Event, decode_line(line, _EVENTS))
