"""How soon a long chat that was left goes on, from disk and without: `python -m app.engine.bench.reopen`.

All through the engine's own process, a new one each time: a chat of `--tokens` tokens gets a reply, and the process
ends, which saves it. Then the chat is opened again and asked on, from its file (`--reopenings` times, each from the
file as it was saved) and with nothing kept (`--prefills` times). Time to first token is the engine's own figure: from
when it takes up the request, loading the file included, opening the model not. On Linux the file is put out of the
system's file cache before each; elsewhere it may be read from memory. Prints a table and one line of JSON.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.chat.figures import MachineFacts, ReplyFigures
from app.chat.message import Message, Role
from app.chat.options import ChatOptions, Sampling
from app.chat.plain import to_plain
from app.engine.child import EngineChild
from app.engine.command import engine_command
from app.engine.model_files import read_config
from app.engine.protocol import (
    Counted,
    CountTokens,
    Failed,
    Finished,
    Generate,
    KeepCaches,
    Load,
    Loaded,
    Ready,
)
from app.engine.quality_text import bundled_texts
from app.errors import NibbleError
from app.paths import HOME_VARIABLE
from app.resources import starter_model_path
from kernels.bench.clock import Figure, figure

_Kind = TypeVar("_Kind", Counted, Finished, Loaded)
_CHAT = "chat"
_BOUND_BYTES = 10**12
_PATIENCE_S = 1800.0
_ROOM_TOKENS = 1024
"""For the template, the replies and what is said last."""
_OPTIONS = ChatOptions(sampling=Sampling(temperature=0.0, max_tokens=16))


@dataclass(frozen=True, slots=True)
class Reopening:
    """What was measured. Times are of the request after the chat was opened again."""

    model: str
    tokens: int
    """That the chat held as it was left."""
    file_bytes: int
    quit_s: float
    """From asking the engine to end to its end, the file being written."""
    from_disk: Figure
    """Seconds to the first token."""
    loading: Figure
    """Of these, seconds that went to find and load the file."""
    with_prefill: Figure
    new_tokens: int
    """Read from disk's end to the first token: what was said last, and what the template puts around it."""
    was_cold: bool
    """Whether the file was out of the system's file cache."""

    @property
    def factor(self) -> float:
        """How many times sooner the first token comes from disk, by the medians."""
        return self.with_prefill.median / self.from_disk.median


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that the command line asks for; return 1 where the engine refuses."""
    arguments = _parser().parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="nibble-reopen-") as folder:
            bench = ReopenBench(Path(folder), arguments.model or starter_model_path(), arguments.tokens)
            measured = bench.measure(arguments.reopenings, arguments.prefills)
    except NibbleError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(measured))
    assert bench.machine is not None
    print(
        json.dumps(
            {"benchmark": "reopen", "machine": to_plain(bench.machine), **to_plain(measured), "factor": measured.factor}
        )
    )
    return 0


def table(measured: Reopening) -> str:
    """Return the figures for people."""
    cold = "out of the system's file cache" if measured.was_cold else "perhaps in the system's file cache"
    return "\n".join(
        [
            f"{measured.model}: {measured.tokens:,} tokens, a file of {measured.file_bytes / 1e6:,.1f} MB, {cold}.",
            f"The engine ended within {measured.quit_s:.2f} s, the file written.",
            f"First token after the chat was opened again, {measured.new_tokens:,} new tokens:",
            f"  from disk     {_seconds(measured.from_disk)}",
            f"    of it loading {_seconds(measured.loading).lstrip()}",
            f"  with prefill  {_seconds(measured.with_prefill)}",
            f"  {measured.factor:,.1f} times sooner from disk",
        ]
    )


class ReopenBench:
    """A chat with a model, which is left and opened again. `folder` is for all that is written meanwhile."""

    def __init__(self, folder: Path, model: Path, tokens: int) -> None:
        self._home = folder / "home"
        self._saved = folder / "saved"
        self._used = folder / "used"
        self._tokens = tokens
        self._model = _with_room(model, tokens + _ROOM_TOKENS, folder)
        self.machine: MachineFacts | None = None

    def measure(self, reopenings: int, prefills: int) -> Reopening:
        """Have the chat, leave it, open it again. Raises NibbleError where the engine refuses."""
        with self._engine(self._saved) as child:
            first = (Message(Role.USER, self._long_text(child)),)
            _progress(f"Reading {self._tokens:,} tokens")
            left = _reply(child, first)
            ending = time.perf_counter()
            child.quit()
            quit_s = time.perf_counter() - ending
        (file,) = self._saved.glob("*.safetensors")
        said = (*first, Message(Role.ASSISTANT, left.text), Message(Role.USER, "And then?"))
        from_disk = [self._from_disk(said, number) for number in range(reopenings)]
        with_prefill = [self._with_prefill(said, number) for number in range(prefills)]
        return Reopening(
            model=left.figures.model,
            tokens=left.figures.cache.tokens,
            file_bytes=file.stat().st_size,
            quit_s=quit_s,
            from_disk=figure([figures.ttft_s for figures in from_disk]),
            loading=figure([f.ttft_s - f.prefilled_tokens / f.prefill_tokens_per_s for f in from_disk]),
            with_prefill=figure([figures.ttft_s for figures in with_prefill]),
            new_tokens=from_disk[0].prefilled_tokens,
            was_cold=hasattr(os, "posix_fadvise"),
        )

    def _from_disk(self, said: tuple[Message, ...], number: int) -> ReplyFigures:
        _progress(f"Opening the chat again, from disk ({number + 1})")
        shutil.rmtree(self._used, ignore_errors=True)
        shutil.copytree(self._saved, self._used)
        with self._engine(self._used) as child:
            for path in self._used.iterdir():
                _forget_in_memory(path)
            figures = _reply(child, said).figures
            child.quit()
        if not figures.disk_tokens:
            raise NibbleError("The chat was not continued from disk.", "The engine's log says why.")
        return figures

    def _with_prefill(self, said: tuple[Message, ...], number: int) -> ReplyFigures:
        _progress(f"Opening the chat again, with nothing kept ({number + 1})")
        with self._engine(None) as child:
            figures = _reply(child, said).figures
            child.quit()
        return figures

    @contextmanager
    def _engine(self, caches: Path | None) -> Iterator[EngineChild]:
        with EngineChild(["env", f"{HOME_VARIABLE}={self._home}", *engine_command()]) as child:
            ready = child.event()
            assert isinstance(ready, Ready)
            self.machine = ready.machine
            if caches is not None:
                child.send(KeepCaches(str(caches), _BOUND_BYTES, (_CHAT,)))
            _last(child, Load("load", str(self._model)), Loaded)
            yield child

    def _long_text(self, child: EngineChild) -> str:
        """Return a text of about as many tokens as are asked for: the bundled prose, over and over."""
        text = bundled_texts()[0].text
        whole = _last(child, CountTokens("count", text), Counted).tokens
        wanted = len(text) * self._tokens // whole
        return (text * (wanted // len(text) + 1))[:wanted]


def _reply(child: EngineChild, messages: tuple[Message, ...]) -> Finished:
    return _last(child, Generate("reply", _CHAT, messages, _OPTIONS), Finished)


def _last(child: EngineChild, request: Load | Generate | CountTokens, kind: type[_Kind]) -> _Kind:
    event: Any = child.ask(request, _PATIENCE_S)[-1]
    if isinstance(event, Failed):
        raise NibbleError(event.message, event.hint)
    assert isinstance(event, kind)
    return event


def _with_room(model: Path, tokens: int, folder: Path) -> Path:
    """Return the model, or a copy in `folder` whose config.json allows so many tokens: speed does not depend on it.

    Raises NibbleError for what is no model folder.
    """
    config = read_config(model)
    if config.get("max_position_embeddings", tokens) >= tokens:
        return model
    copy = folder / f"{model.name}, {tokens} tokens allowed"
    shutil.copytree(model, copy)
    (copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": tokens}), encoding="utf-8")
    return copy


def _forget_in_memory(path: Path) -> None:
    """Have the system read a file from the disk the next time, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _seconds(found: Figure) -> str:
    return f"{found.median:9.3f} s ({found.p20:.3f} to {found.p80:.3f})"


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(what, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.engine.bench.reopen", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--model", type=Path, help="a model folder (default: the starter, more tokens allowed)")
    parser.add_argument("--tokens", type=_positive, default=8192, help="of the chat, about (default: 8192)")
    parser.add_argument("--reopenings", type=_positive, default=5, help="from disk (default: 5)")
    parser.add_argument("--prefills", type=_positive, default=1, help="with nothing kept (default: 1)")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
