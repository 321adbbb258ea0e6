"""The whole chain, once: `python -m app --self-test`, or the frozen app with `--self-test`.

Prints a line a step; a step that breaks says what broke, and the others go on. Exit code 0 when all is well, else 1.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, TypeVar

from app.catalogue import download_protocol
from app.catalogue.download_protocol import download_command
from app.chat.lines import ProtocolError
from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions, Sampling
from app.engine.child import ChildError, EngineChild
from app.engine.command import engine_command
from app.engine.protocol import Failed, Finished, Generate, Load, Loaded, Ready
from app.errors import NibbleError
from app.paths import HOME_VARIABLE, default_paths
from app.resources import starter_model_path
from app.viewmodels.reply import ChatState

if TYPE_CHECKING:
    from app.main import Program

T = TypeVar("T")
Step = Callable[[], str]
"""Does one thing and returns what is worth telling of it; raises what broke."""

PROMPT = "Tell me a story about a fox."
REPLY_TOKENS = 24
WINDOW_TIMEOUT_S = 60.0
NEEDS_MORE_THAN_WE_BRING = {"olmo"}
"""Model types of mlx-lm that want a package of their own."""


class BrokenError(Exception):
    """A step found something that is not as it must be."""


def main() -> int:
    """Run every step; return the exit code."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    steps: list[tuple[str, Step]] = [
        ("versions", _versions),
        ("device", _device),
        ("model types", _model_types),
        ("int4 reply", lambda: _reply(CacheMode.INT4)),
        ("fp16 reply", lambda: _reply(CacheMode.FP16)),
        ("download", _download),
        ("window", _window),
    ]
    return run(steps)


def run(steps: list[tuple[str, Step]]) -> int:
    """Run `steps` in order, a line each; return 1 when one of them broke."""
    broken = 0
    for name, step in steps:
        started_s = time.monotonic()
        try:
            detail, verdict = step(), "ok"
        except Exception as error:
            if not isinstance(error, BrokenError | ChildError | NibbleError):
                traceback.print_exc()
            detail, verdict = str(error) or type(error).__name__, "BROKEN"
            broken += 1
        print(f"{verdict:<6}  {name:<12}  ({detail}, {time.monotonic() - started_s:.1f} s)", flush=True)
    print("All is well." if not broken else f"{broken} of {len(steps)} steps broke.")
    return 1 if broken else 0


def _versions() -> str:
    from PySide6 import __version__ as pyside_version

    from app.engine.machine import machine_facts

    facts = machine_facts()
    frozen = " (frozen)" if getattr(sys, "frozen", False) else ""
    return (
        f"Nibble {facts.nibble_version}{frozen}, Python {facts.python_version}, MLX {facts.mlx_version}, "
        f"mlx-lm {facts.mlx_lm_version}, PySide6 {pyside_version}, {facts.os}"
    )


def _device() -> str:
    """Multiply two matrices on the default device."""
    import mlx.core as mx

    from app.engine.machine import machine_facts

    left = mx.arange(64 * 64, dtype=mx.float32).reshape(64, 64) % 7
    product = left @ left.T
    expected = mx.sum(left[:, None, :] * left[None, :, :], axis=-1)
    if not mx.allclose(product, expected).item():
        raise BrokenError(f"a matrix product on {mx.default_device()} is wrong")
    facts = machine_facts()
    return f"{facts.device}, {facts.backend}, {facts.machine}"


def _model_types() -> str:
    """Import every architecture that mlx-lm knows; a frozen app easily leaves some behind."""
    from mlx_lm import models

    names = [module.name for module in iter_modules(models.__path__)]
    missing = {}
    for name in names:
        try:
            with redirect_stdout(sys.stderr):
                import_module(f"{models.__name__}.{name}")
        except (ImportError, SystemExit) as error:
            missing[name] = error
    if len(names) < 100:
        raise BrokenError(f"only {len(names)} modules of mlx_lm.models are here")
    if broken := sorted(set(missing) - NEEDS_MORE_THAN_WE_BRING):
        raise BrokenError(f"mlx_lm.models.{broken[0]} cannot be imported: {missing[broken[0]]}")
    return f"{len(names) - len(missing)} modules of mlx_lm.models"


def _reply(mode: CacheMode) -> str:
    """Let a real engine process answer with the starter model, and check what it says of its cache."""
    request = Generate("reply", "chat", (Message(Role.USER, PROMPT),), _options(mode))
    with EngineChild(engine_command()) as child:
        if not isinstance(child.event(), Ready):
            raise BrokenError("the engine's first word was not Ready")
        _check(child.ask(Load("load", str(starter_model_path())))[-1], Loaded)
        reply = _check(child.ask(request)[-1], Finished)
        if code := child.quit():
            raise BrokenError(f"the engine ended with code {code}")
    check_reply(reply, mode)
    figures = reply.figures
    return (
        f"{figures.generated_tokens} tokens, ratio {figures.cache.ratio:.2f}x, {figures.cache.path}, "
        f"{figures.decode_tokens_per_s:.0f} tokens/s"
    )


def check_reply(reply: Finished, mode: CacheMode) -> None:
    """Raise BrokenError where a reply's text or cache figures cannot be right."""
    cache = reply.figures.cache
    if not reply.text.strip():
        raise BrokenError("the reply is empty")
    if cache.mode is not mode:
        raise BrokenError(f"the cache is {cache.mode}, not {mode}")
    if not 0 < cache.used_bytes <= cache.allocated_bytes:
        raise BrokenError(f"{cache.used_bytes} bytes used of {cache.allocated_bytes} allocated")
    if mode is CacheMode.FP16 and abs(cache.ratio - 1) > 0.01:
        raise BrokenError(f"an fp16 cache is {cache.ratio:.2f}x smaller than fp16")
    if mode is CacheMode.INT4 and (cache.layers_int4 < cache.layers_total or cache.ratio < 3.4):
        raise BrokenError(
            f"{cache.layers_int4} of {cache.layers_total} layers are int4, {cache.ratio:.2f}x smaller than fp16"
        )


def _check(event: object, kind: type[T]) -> T:
    if isinstance(event, Failed):
        raise BrokenError(f"{event.message} {event.hint}{event.detail}".strip())
    if not isinstance(event, kind):
        raise BrokenError(f"expected {kind.__name__}, got {type(event).__name__}")
    return event


def _download() -> str:
    """Have a download's process say that it is offline, for which it needs all its imports; name the keychain."""
    from app.catalogue.token_process import keychain_name

    with subprocess.Popen(
        download_command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        encoding="utf-8",
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(download_protocol.encode(download_protocol.Fetch("mlx-community/Model")) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
    try:
        event = download_protocol.decode_event(line)
    except ProtocolError as error:
        raise BrokenError(f"the download's process said {line!r}: {error}") from None
    if not isinstance(event, download_protocol.Failed) or event.kind is not download_protocol.FailureKind.OFFLINE:
        raise BrokenError(f"a download without a network ended with {event}")
    return f"keychain: {keychain_name()}"


def _window() -> str:
    """Build the whole program without a screen, in a folder of its own, and have one message answered in its window."""
    from PySide6.QtWidgets import QApplication
    from qasync import QEventLoop

    from app.main import Program

    application = QApplication([])
    application.setQuitOnLastWindowClosed(False)
    with tempfile.TemporaryDirectory() as home:
        os.environ[HOME_VARIABLE] = home
        program = Program(default_paths(), engine_command(), starter_model_path())
        with QEventLoop(application) as loop:
            reply, ratio = loop.run_until_complete(_converse(program))
    return f"one message answered with {len(reply.split())} words, the panel says {ratio}"


async def _converse(program: "Program") -> tuple[str, str]:
    """Write into the composer, wait for the reply, close; return the reply's text and the panel's ratio."""
    session = program.models.session
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(error: Exception | None) -> None:
        if not done.done():
            done.set_exception(error) if error else done.set_result(None)

    def follow(state: ChatState) -> None:
        if state is ChatState.FAILED:
            settle(BrokenError(f"the engine stopped; its last words:\n{program.engine.stderr_tail}"))
        if state is ChatState.IDLE and not session.messages:
            program.window.composer.write(PROMPT)
            program.window.composer.send()

    session.state_changed.connect(follow)
    session.reply_finished.connect(lambda *_: settle(None))
    session.failed.connect(lambda message, hint, detail: settle(BrokenError(f"{message} {hint}{detail}".strip())))
    session.set_options(_options(CacheMode.INT4))
    program.start()
    try:
        await asyncio.wait_for(done, WINDOW_TIMEOUT_S)
        reply = session.messages[-1].message.text
        if not reply.strip():
            raise BrokenError("the reply in the window is empty")
        return reply, session.panel.value("cache.ratio")
    except TimeoutError:
        raise BrokenError(f"no reply within {WINDOW_TIMEOUT_S:g} s: {session.state.value}") from None
    finally:
        program.window.close()
        await program.close()


def _options(mode: CacheMode) -> ChatOptions:
    return ChatOptions(mode, sampling=Sampling(temperature=0.0, max_tokens=REPLY_TOKENS))
