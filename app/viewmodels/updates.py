"""Is there a newer version? Asked only when the person asks, or has set that Nibble may ask at start."""

import json
import logging
import re
from dataclasses import dataclass

from PySide6.QtCore import QObject, QUrl, Signal
from PySide6.QtNetwork import QNetworkAccessManager, QNetworkReply, QNetworkRequest

from app import __version__

_log = logging.getLogger(__name__)

TIMEOUT_MS = 15_000
MOST_BYTES = 1_000_000
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)$")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A release that is newer than this program."""

    version: str
    page: str
    """Address of its page, https."""


class Updates(QObject):
    """Asks the list of releases, in GitHub's form, for the newest one. One question at a time; nothing waits."""

    newer_found = Signal(object)
    """NewVersion."""
    is_newest = Signal()
    failed = Signal(str, str)
    """What went wrong, and what to do."""

    def __init__(self, address: str, version: str = __version__, parent: QObject | None = None) -> None:
        """`address` is where the newest release is told; "" where nobody said so when the program was built."""
        super().__init__(parent)
        self._address = address
        self._version = version
        self._network = QNetworkAccessManager(self)
        self._reply: QNetworkReply | None = None

    @property
    def is_asking(self) -> bool:
        """Whether an answer is awaited."""
        return self._reply is not None

    @property
    def can_ask(self) -> bool:
        """Whether it is known where releases are told."""
        return bool(self._address)

    def check(self) -> None:
        """Ask; exactly one signal answers, later. While one question is open another is not asked."""
        if self._reply is not None:
            return
        if not self._address:
            self.failed.emit(
                "This copy of Nibble does not know where releases are published.",
                "It was built from source: get the newest source and build it again.",
            )
            return
        request = QNetworkRequest(QUrl(self._address))
        request.setTransferTimeout(TIMEOUT_MS)
        request.setRawHeader(b"Accept", b"application/json")
        request.setRawHeader(b"User-Agent", f"Nibble/{self._version}".encode())
        reply = self._network.get(request)
        reply.readyRead.connect(lambda: reply.abort() if reply.bytesAvailable() > MOST_BYTES else None)
        reply.finished.connect(self._take)
        self._reply = reply

    def close(self) -> None:
        """Drop an open question; nothing is answered any more."""
        if (reply := self._reply) is not None:
            self._reply = None
            reply.abort()
            reply.deleteLater()

    def _take(self) -> None:
        reply = self._reply
        if reply is None:
            return
        self._reply = None
        reply.deleteLater()
        if reply.error() is not QNetworkReply.NetworkError.NoError:
            status = reply.attribute(QNetworkRequest.Attribute.HttpStatusCodeAttribute)
            _log.warning("releases not read: %s", reply.errorString())
            if status == 404:
                self.failed.emit("No release of Nibble has been published yet.", "")
            else:
                why = f"the server answered {status}" if status else reply.errorString()
                self.failed.emit(f"The list of releases could not be read: {why}.", "Check the network, or try later.")
            return
        found = newest_release(bytes(reply.readAll().data()))
        if found is None:
            self.failed.emit("The list of releases says nothing that Nibble understands.", "Look at its page instead.")
        elif _numbers(found.version) > _numbers(self._version):
            self.newer_found.emit(found)
        else:
            self.is_newest.emit()


def newest_release(content: bytes) -> NewVersion | None:
    """Read a release as GitHub tells it (`tag_name`, `html_url`); None for anything else."""
    try:
        data = json.loads(content)
        version, page = data["tag_name"], QUrl(data["html_url"])
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(version, str) or _VERSION.match(version) is None:
        return None
    if page.scheme() != "https" and page.host() not in _LOOPBACK:
        return None
    return NewVersion(version.removeprefix("v"), page.toString())


def _numbers(version: str) -> tuple[int, ...]:
    found = _VERSION.match(version)
    return tuple(int(part) for part in found.groups()) if found else (0,)
