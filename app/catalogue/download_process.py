"""A download's process: `python -m app --download`. One request on stdin, events on stdout, an end at stdin's end.

Everything happens on the main thread. The other one waits for the end of stdin, which is how the window pauses a
download and how a window that was killed ends it; it then sends the main thread SIGTERM, whose handler raises. That
ends a read from the network and a wait alike, and what was fetched is on the disk.
"""

import logging
import os
import signal
import threading
import traceback
from types import FrameType
from typing import BinaryIO

from app.awake import stay_awake
from app.catalogue.download_protocol import Event, Failed, FailureKind, Fetch, Finished, decode_fetch, encode
from app.catalogue.token_protocol import is_token
from app.chat.lines import ProtocolError
from app.children import claimed_stdout
from app.errors import NibbleError
from app.paths import default_paths

_SETTINGS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
}


class _Stopped(BaseException):
    """The window wants no more; no `except Exception` on the way may take it."""


def serve() -> int:
    """Be a download's process until it is done, stopped or failed; return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to the group; the window answers it
    with claimed_stdout() as stdout:
        try:
            signal.signal(signal.SIGTERM, _stop)
            line = _first_line()
            stay_awake("Nibble downloads a model", mac_too=True)
            threading.Thread(
                target=_stop_at_end_of_stdin, args=(threading.get_ident(),), name="download-stdin", daemon=True
            ).start()
            return _answer(line, stdout)
        except _Stopped:
            return 0


def _answer(line: bytes, stdout: BinaryIO) -> int:
    try:
        request = decode_fetch(line.decode())
    except (ProtocolError, UnicodeDecodeError):
        # Without what was sent: a token may be in it.
        message = "The download's process was sent a request that it cannot read."
        _write(
            stdout, Failed(FailureKind.DEFECT, message, "Nibble's window and this process are of different versions.")
        )
        return 1
    outcome = _outcome(request, stdout)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is done is told, even if the window pauses just now
    _write(stdout, outcome)
    return 1 if isinstance(outcome, Failed) else 0


def _outcome(request: Fetch, stdout: BinaryIO) -> Finished | Failed:
    if request.token is not None and not is_token(request.token):
        return Failed(FailureKind.TOKEN_WANTED, "The access token is none.", "Give Nibble another one.")
    os.environ.update(_SETTINGS)  # read by huggingface_hub as it is imported
    from app.catalogue.download import Download
    from app.catalogue.download_records import DownloadRecords
    from app.catalogue.hub import DownloadError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings hold signed addresses

    def without_token(text: str) -> str:
        return text.replace(request.token, "(token)") if request.token else text

    try:
        records = DownloadRecords(default_paths().downloads)
        folder = Download(request, records, lambda event: _write(stdout, event)).run()
    except NibbleError as error:
        kind = error.kind if isinstance(error, DownloadError) else FailureKind.DISK
        return Failed(kind, without_token(error.message), without_token(error.hint))
    except Exception as error:
        return Failed(
            FailureKind.DEFECT,
            without_token(f"The download met an error it did not expect: {type(error).__name__}: {error}"),
            "This is a defect in Nibble. Try again; if it comes back, report it with the details.",
            without_token(traceback.format_exc()),
        )
    return Finished(str(folder))


def _write(stdout: BinaryIO, event: Event) -> None:
    try:
        stdout.write(encode(event).encode() + b"\n")
        stdout.flush()
    except BrokenPipeError:
        raise _Stopped from None


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: the way out is not to be stopped again
    raise _Stopped


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n") and (data := os.read(0, 1)):
        line += data
    return line


def _stop_at_end_of_stdin(main_thread: int) -> None:
    while os.read(0, 4096):
        pass
    signal.pthread_kill(main_thread, signal.SIGTERM)
