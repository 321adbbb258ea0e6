"""One model of the list, and what is said of it. Pure: no Qt, no clock.

The fit is that of a new chat: the group size is the one that new chats start with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from app.chat.fit import ModelNeeds
from app.chat.options import CacheMode
from app.viewmodels.downloads import DownloadState, DownloadStatus
from app.viewmodels.panel_state import UNMEASURED, format_bytes

_LONGEST = (
    "Most tokens of one chat for which weights, KV cache and working set fit in memory, never more than the model "
    "itself reads. Computed from the shapes of the model's own caches and weights before anything is loaded; the "
    "working set is estimated from prefill chunk, widest layer and vocabulary."
)


class Action(Enum):
    """What a person can do with a model."""

    OPEN = "Open"
    GET = "Get"
    PAUSE = "Pause"
    RESUME = "Resume"
    CANCEL = "Cancel"


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model of the catalogue, or one on this machine, or both."""

    key: str
    name: str
    repo: str = ""
    """On the hub; "" where it cannot be fetched from there."""
    folder: str | None = None
    """Where it lies, "" for the starter; None where it is not here."""
    config: str = ""
    """What is known of its config.json, as JSON."""
    place: str = ""
    """Whose folder that is."""
    licence: str = ""
    context_tokens: int | None = None
    other_bytes: int | None = None
    """What is fetched beside the weights, where that is known."""
    sources: str = ""
    missing: str = ""
    """What keeps a folder that is here from being whole."""
    is_open: bool = False
    is_opening: bool = False
    needs: ModelNeeds | None = None
    problem: str = ""
    """Why nothing is known of what it takes."""
    download: DownloadState = field(default_factory=DownloadState)

    @property
    def is_here(self) -> bool:
        """Whether there is a folder that can be opened."""
        return self.folder is not None and not self.missing

    @property
    def download_bytes(self) -> int | None:
        """What fetching it takes: as the hub says, else computed."""
        if self.download.bytes_total is not None:
            return self.download.bytes_total
        if self.needs is None:
            return None
        return self.needs.stored_bytes + (self.other_bytes or 0)

    @property
    def limit_tokens(self) -> int | None:
        """The most tokens that it reads."""
        return self.context_tokens if self.needs is None else self.needs.context_limit_tokens

    def longest(self, mode: CacheMode, group_size: int) -> int | None:
        """Return the longest chat that fits; None while unknown."""
        return None if self.needs is None else self.needs.longest(mode, group_size)


def actions(row: ModelRow, can_fetch: bool) -> tuple[Action, ...]:
    """Return what can be done with a model, what is likeliest wanted first."""
    status = row.download.status
    if row.is_here and status not in (DownloadStatus.RUNNING, DownloadStatus.WAITING):
        return () if row.is_open or row.is_opening else (Action.OPEN,)
    if not (can_fetch and row.repo):
        return ()
    if status in (DownloadStatus.RUNNING, DownloadStatus.WAITING):
        return (Action.PAUSE, Action.CANCEL)
    if status in (DownloadStatus.PAUSED, DownloadStatus.FAILED):
        return (Action.RESUME, Action.CANCEL)
    return (Action.GET,)


def size_text(row: ModelRow) -> str:
    """Return the bytes to fetch, or on the disk."""
    return UNMEASURED if row.download_bytes is None else format_bytes(row.download_bytes)


def size_tooltip(row: ModelRow) -> str:
    """Return how that figure is made."""
    if row.download.bytes_total is not None:
        return "Size of all files to fetch, as the hub says. 1 MB is 1,000,000 bytes."
    rest = "; tokenizer and the like come to it" if row.other_bytes is None else ", and the other files as listed"
    return f"Bytes of the weights, computed from the shapes of the model's own layers{rest}. 1 MB is 1,000,000 bytes."


def context_text(row: ModelRow) -> str:
    """Return the model's own limit."""
    return UNMEASURED if row.limit_tokens is None else f"{row.limit_tokens:,}"


def longest_text(row: ModelRow, mode: CacheMode, group_size: int) -> str:
    """Return the longest chat that fits in a mode."""
    longest = row.longest(mode, group_size)
    if longest is None:
        return UNMEASURED
    if longest == 0:
        return "none"
    return f"{longest:,}"


def longest_tooltip(row: ModelRow, mode: CacheMode, group_size: int) -> str:
    """Return how that figure is made, with its parts."""
    needs, longest = row.needs, row.longest(mode, group_size)
    if needs is None or longest is None:
        return row.problem or _LONGEST
    tokens = longest or needs.open_tokens()
    outlook = needs.outlook
    parts = (
        f"At {tokens:,} tokens in {mode.value}: {format_bytes(needs.weight_bytes)} of weights, "
        f"{format_bytes(outlook.growth(mode, group_size).bytes_at(tokens))} of KV cache, "
        f"{format_bytes(outlook.work.bytes_at(tokens, mode))} of working set, of {format_bytes(needs.budget_bytes)} "
        f"({outlook.memory_source})."
    )
    return f"{_LONGEST} {parts}"


def fit_text(row: ModelRow, group_size: int) -> str:
    """Return in which mode a chat of some length fits."""
    if row.needs is None:
        return "unknown" if row.problem else UNMEASURED
    fits = {mode: row.needs.can_open(mode, group_size) for mode in CacheMode}
    if all(fits.values()):
        return "yes"
    return "int4 only" if fits[CacheMode.INT4] else "no"


def fit_tooltip(row: ModelRow) -> str:
    """Return how that is decided."""
    if row.needs is None:
        return row.problem or "Not computed yet."
    return (
        f"Whether weights, a chat of {row.needs.open_tokens():,} tokens and the working set fit in "
        f"{format_bytes(row.needs.budget_bytes)} ({row.needs.outlook.memory_source})."
    )


def state_text(row: ModelRow) -> str:
    """Return in a few words where it is."""
    status = row.download.status
    if row.is_opening:
        return "opening"
    if row.is_open:
        return "open"
    if status is DownloadStatus.RUNNING:
        share = _share(row.download)
        return "fetching" if share is None else f"fetching, {share:.0%}"
    if status in (DownloadStatus.WAITING, DownloadStatus.PAUSED, DownloadStatus.FAILED):
        return str(status.value)
    if row.missing:
        return "incomplete"
    if row.is_here:
        return "here"
    return "can be fetched"


def state_tooltip(row: ModelRow) -> str:
    """Return the same in a sentence."""
    if row.download.status is DownloadStatus.FAILED:
        return " ".join(filter(None, (row.download.error, row.download.hint)))
    if row.missing:
        return f"It cannot be opened: {row.missing}."
    if row.folder:
        return f"In {row.folder} ({row.place}); it is used where it is."
    if row.folder == "":
        return "It comes with Nibble."
    return f"From huggingface.co/{row.repo} into the Hugging Face cache, which other programs share."


def needs_sentence(row: ModelRow, group_size: int) -> str:
    """Return what the model is and takes, for the selected row."""
    needs = row.needs
    if needs is None:
        return row.problem or "Working out what it takes…"
    int4 = needs.outlook.growth(CacheMode.INT4, group_size).token_bytes
    fp16 = needs.outlook.fp16.token_bytes
    layers = f"{needs.layers} layers with a cache, "
    layers += "all in int4" if needs.int4_layers == needs.layers else f"{needs.int4_layers} of them in int4"
    each = f"a token of context takes {format_bytes(int4)} in int4 and {format_bytes(fp16)} in fp16"
    return f"{_count(needs.parameters)} parameters ({needs.architecture}), {layers}; {each}."


def fit_sentence(row: ModelRow, group_size: int) -> str:
    """Return whether it fits this machine, for the selected row; "" while unknown."""
    needs = row.needs
    if needs is None:
        return ""
    memory = f"{format_bytes(needs.budget_bytes)} ({needs.outlook.memory_source})"
    int4, fp16 = (needs.longest(mode, group_size) for mode in (CacheMode.INT4, CacheMode.FP16))
    if needs.weight_bytes > needs.budget_bytes:
        return f"Does not fit: its weights take {format_bytes(needs.weight_bytes)} of {memory}."
    if not int4:
        return f"Does not fit: no context fits beside {format_bytes(needs.weight_bytes)} of weights in {memory}."
    if int4 == fp16 == needs.context_limit_tokens:
        longest = f"all {int4:,} tokens that it reads, in int4 and in fp16"
    else:
        longest = f"{int4:,} tokens in int4, {f'{fp16:,}' if fp16 else 'none'} in fp16"
    verdict = {"yes": "Fits", "int4 only": "Fits in int4", "no": "Does not fit"}[fit_text(row, group_size)]
    return f"{verdict}: beside {format_bytes(needs.weight_bytes)} of weights there is room for {longest}, of {memory}."


def progress_text(state: DownloadState) -> str:
    """Return bytes, speed and time left of a download that was begun; "" where none was."""
    if not state.is_under_way:
        return ""
    total = "" if state.bytes_total is None else f" of {format_bytes(state.bytes_total)}"
    parts = [f"{format_bytes(state.bytes_done)}{total}"] if state.bytes_done or total else []
    if state.status is not DownloadStatus.RUNNING:
        parts.append(state.status.value)
    elif state.note:
        parts.append(state.note)
    else:
        if state.bytes_per_s:
            parts.append(f"{format_bytes(round(state.bytes_per_s))}/s")
        if state.seconds_left is not None:
            parts.append(f"{_duration(state.seconds_left)} left")
    return ", ".join(parts)


def progress_permille(state: DownloadState) -> int | None:
    """Return how much of a download is done, of a thousand; None where nobody knows."""
    share = _share(state)
    return None if share is None else round(1000 * share)


def order(rows: Sequence[ModelRow]) -> list[ModelRow]:
    """Return the rows as they are first shown: the starter, what is here, then what can be fetched."""
    return sorted(rows, key=lambda row: (row.folder != "", row.folder is None))  # stable: else as they came


def _share(state: DownloadState) -> float | None:
    return state.bytes_done / state.bytes_total if state.bytes_total else None


def _duration(seconds: float) -> str:
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(-(-whole // 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f}B" if parameters >= 999_500_000 else f"{parameters / 1e6:.1f}M"
