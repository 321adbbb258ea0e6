"""One prompt on the terminal: `python -m app --prompt "..."`.

The reply goes to stdout as it is written; everything else, the table of figures included, goes to stderr. With
`--cache compare` the table is what was asked for: it follows both replies on stdout.
"""

import argparse
import io
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from app.chat.comparison import compare_replies
from app.chat.message import Message, Role, title_from
from app.chat.options import CacheMode, ChatOptions, Sampling
from app.engine.protocol import Engine, Event, Finished, Generate, Load, Loaded, Loading, Prefill, Token
from app.errors import NibbleError, OverridableError
from app.paths import default_paths
from app.resources import starter_model_path
from app.settings.schema import Settings, checked
from app.stats.export import export_rows
from app.stats.session import Row
from app.viewmodels.panel_state import format_seconds, reply_panel

DONE, REFUSED, DEFECT, STOPPED = 0, 1, 2, 130
"""Exit codes."""

EXPORT_SUFFIXES = (".csv", ".json", ".md")
"""What `app.stats.export` writes; asked before the reply, not after it."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the command line asks for; one reply for each of `modes`."""

    prompt: str
    model: Path
    modes: tuple[CacheMode, ...]
    options: ChatOptions
    export: Path | None
    anyway: bool = False
    """Whether a model is opened that does not fit in memory."""


def main(arguments: argparse.Namespace, engine_factory: Callable[[], Engine] | None = None) -> int:
    """Answer the prompt of the command line; return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        return run(task_from(arguments), engine_factory or _mlx_engine, sys.stdout, sys.stderr)
    except NibbleError as error:
        print(f"nibble: {error}", file=sys.stderr)
        if isinstance(error, OverridableError):
            print("nibble: --anyway opens it all the same.", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:
        # Whoever read the reply has left; without this the interpreter would complain as it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    except Exception:
        traceback.print_exc()
        return DEFECT


def task_from(arguments: argparse.Namespace) -> Task:
    """Read the command line's values. Raises NibbleError for one that is out of bounds or cannot be read."""
    compare = arguments.cache == "compare"
    seed = arguments.seed
    if seed is None and compare:
        seed = random.randrange(2**31)
    sampling = Sampling(
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k,
        min_p=arguments.min_p,
        max_tokens=arguments.max_tokens,
        seed=seed,
    )
    options = ChatOptions(group_size=arguments.group_size, system_prompt=arguments.system_prompt, sampling=sampling)
    prompt = arguments.prompt if arguments.prompt is not None else _read_prompt(arguments.prompt_file)
    if not prompt.strip():
        raise NibbleError("The prompt is empty.", "Give it some text.")
    if arguments.export is not None:
        _check_export(arguments.export)
    return Task(
        prompt=prompt,
        model=arguments.model or starter_model_path(),
        modes=(CacheMode.FP16, CacheMode.INT4) if compare else (CacheMode(arguments.cache),),
        options=checked(Settings(chat=options)).chat,
        export=arguments.export,
        anyway=arguments.anyway,
    )


def _check_export(file: Path) -> None:
    """Refuse before the reply what would fail after it. Raises NibbleError."""
    if file.suffix.lower() not in EXPORT_SUFFIXES:
        raise NibbleError(f"Figures cannot be exported to {file.name}.", "Name a file that ends in .csv, .json or .md.")
    if not file.parent.is_dir():
        raise NibbleError(f"There is no folder {file.parent} to export to.", "Make it, or name another.")
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise NibbleError(f"Figures cannot be written to {file}.", "Name another file, in a folder you may write to.")


def run(task: Task, engine_factory: Callable[[], Engine], out: TextIO, err: TextIO) -> int:
    """Let an engine answer `task`, show and export what it did; return the exit code.

    Where a later reply fails, the ones before it are shown and exported all the same, and then the error is raised.
    """
    terminal = _Terminal(out, err)
    engine = engine_factory()
    replies: list[Finished] = []
    failure: Exception | None = None
    try:
        load = Load("load", str(task.model), task.anyway, task.modes[0], task.options.group_size)
        engine.load(load, terminal.show, lambda: False)
        with _interruptions() as interrupted:
            for mode in task.modes:
                if len(task.modes) > 1:
                    print(f"{'' if mode is task.modes[0] else chr(10)}[{mode}]", file=out)
                request = Generate(
                    request_id=mode,
                    chat_id=mode,
                    messages=(Message(Role.USER, task.prompt),),
                    options=replace(task.options, cache_mode=mode),
                    reuse_cache=False,
                )
                try:
                    engine.generate(request, terminal.show, interrupted)
                except Exception as error:
                    if not replies:
                        raise
                    failure = error
                    break
                replies += terminal.finished()
                if interrupted():
                    break
        machine = engine.machine()
    finally:
        terminal.say("")
        engine.close()
    print("\n" + table(replies), file=out if len(task.modes) > 1 else err)
    for remark in terminal.remarks:
        print(remark, file=err)
    if task.export is not None:
        export_rows(task.export, [Row(title_from(task.prompt), reply.figures) for reply in replies], machine)
        print(f"Figures written to {task.export}", file=err)
    if failure is not None:
        raise failure
    return STOPPED if interrupted() else DONE


def table(replies: Sequence[Finished]) -> str:
    """Lay the figures of one reply, or of two, side by side; two are compared below it."""
    columns = [_column(reply) for reply in replies]
    rows = [(label, *(column[label] for column in columns)) for label in columns[0]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += _notes(replies)
    if len(replies) == 2:
        lines += ["", *_comparison(*replies)]
    return "\n".join(lines)


def _column(reply: Finished) -> dict[str, str]:
    figures = reply.figures
    panel = reply_panel(figures)
    reused = f" ({figures.reused_tokens:,} reused)" if figures.reused_tokens else ""
    return {
        "Model": figures.model,
        "KV cache": panel.mode_line,
        "KV allocated": panel.value("cache.allocated"),
        "KV used": panel.value("cache.used"),
        "The same in fp16": panel.value("cache.fp16"),
        "Ratio": panel.value("cache.ratio"),
        "Layers in int4": panel.value("cache.layers"),
        "Attention path": panel.value("cache.path"),
        "Context": panel.value("context.used"),
        "Prompt": f"{figures.prompt_tokens:,} tokens{reused}",
        "Reply": f"{figures.generated_tokens:,} tokens ({figures.finish_reason})",
        "First token": panel.value("speed.ttft"),
        "Prefill": panel.value("speed.prefill"),
        "Decode": panel.value("speed.decode"),
        "Whole reply": format_seconds(figures.elapsed_s),
        "Memory active": panel.value("memory.active"),
        "Memory peak": panel.value("memory.peak"),
        "Seed": str(figures.seed) if figures.temperature else "none: greedy",
    }


def _notes(replies: Sequence[Finished]) -> list[str]:
    """Say why layers that should be int4 are not."""
    asked = [reply.figures for reply in replies if reply.figures.requested_mode is CacheMode.INT4]
    return [note for figures in asked for note in reply_panel(figures).layer_notes]


def _comparison(fp16: Finished, int4: Finished) -> list[str]:
    compared = compare_replies(fp16.token_ids, int4.token_ids, fp16.text, int4.text)
    cache = int4.figures.cache
    lines = [f"int4 allocates {cache.ratio:.2f} times fewer KV bytes than fp16 for the same {cache.tokens:,} tokens."]
    if compared.first_different_token is None:
        return [*lines, "Both replies are the same, token by token."]
    char = compared.first_different_char
    where = "in tokens only; their texts are the same" if char is None else f"and at character {char:,}"
    return [
        *lines,
        f"The replies part at token {compared.first_different_token:,} {where} (counted from 0).",
        f"{compared.agreement:.0%} of the tokens are equal, place by place.",
    ]


class _Terminal:
    """Shows an engine's events: the reply on `out`; on `err`, where a person watches, what is being done."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._watched = err.isatty()
        self._status = ""
        self._finished: list[Finished] = []
        self.remarks: tuple[str, ...] = ()
        """What else there is to know of the model."""

    def show(self, event: Event) -> None:
        """Show one event. An `Emit`."""
        match event:
            case Loading(step=step):
                self.say(step)
            case Loaded(model=model):
                self.say("")
                self.remarks = model.remarks
            case Prefill(done_tokens=done, total_tokens=total):
                self.say(f"Reading the prompt: {done:,} of {total:,} tokens")
            case Token(text=text):
                self.say("")
                self._out.write(text)
                self._out.flush()
            case Finished():
                self.say("")
                print(file=self._out, flush=True)
                self._finished.append(event)

    def finished(self) -> list[Finished]:
        """Return the replies finished since the last call."""
        replies, self._finished = self._finished, []
        return replies

    def say(self, status: str) -> None:
        """Replace the line that says what is being done."""
        if self._watched and status != self._status:
            self._err.write(f"\r{status.ljust(len(self._status))}" + ("" if status else "\r"))
            self._err.flush()
            self._status = status


@contextmanager
def _interruptions() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C into a flag, so that a reply ends in good order; a second Ctrl-C interrupts at once."""
    interrupted = False

    def note(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _read_prompt(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise NibbleError(f"The prompt in {name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise NibbleError(f"The prompt in {name} is not text in UTF-8.") from None


def _mlx_engine() -> Engine:
    from app.engine.mlx_engine import MlxEngine

    return MlxEngine(default_paths().calibrations)
