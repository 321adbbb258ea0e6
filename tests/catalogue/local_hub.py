"""A server on loopback that speaks what downloads use of the hub's API, has bad days on demand, and keeps count."""

import hashlib
import json
import re
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPO = "mlx-community/Small-4bit"
COMMIT = "1234567890" * 4
LFS_FROM_BYTES = 10_000
_CHUNK_BYTES = 16_384


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer. The first fault of a path's list is used up by one request."""

    status: int = 0
    """Answer with this and nothing else; 0 for the usual answer."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    drop_after: int = -1
    """Cut the connection after so many bytes of the body."""
    stall_after: int = -1
    """Say nothing more after so many bytes, until the hub is closed."""
    announce_cut: bool = False
    """Serve half of the file, and say that it is all."""
    corrupt: bool = False
    """Turn one byte of the answer over."""
    no_ranges: bool = False


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False
    token: str = ""
    """What a request must show; "" lets everybody in."""
    members: tuple[str, ...] = ()
    """Tokens whose owners accepted the terms."""
    claimed_sizes: dict[str, int] = field(default_factory=dict)


class LocalHub:
    """Serves `repositories` at `url`; large files are redirected to another origin, as the hub does with its CDN."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        """By file name; "api" for the listing."""
        self.served: Counter[str] = Counter()
        """Bytes of bodies written, by file name."""
        self.requests: list[tuple[str, str, str, str | None]] = []
        """Origin ("hub" or "cdn"), path, Range, Authorization."""
        self.bytes_per_s = 0
        """How fast bodies are served; 0 for as fast as can be."""
        self.closing = threading.Event()
        self.busy = 0
        """Answers in the making."""
        self.busy_lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        for server in self._servers:
            server.daemon_threads = False
        self._threads = [
            threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.02}) for s in self._servers
        ]
        for thread in self._threads:
            thread.start()
        self.url, self.cdn_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def close(self) -> None:
        self.closing.set()
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    def count(self, name: str) -> int:
        """Return how often a file's bytes were asked for."""
        return sum(path.endswith(f"/{name}") for origin, path, _, _ in self.requests if origin == "cdn")

    def settle(self) -> None:
        """Wait until every answer is given, or given up: then nothing is counted any more."""
        while self.busy:
            time.sleep(0.005)

    def take_fault(self, name: str) -> Fault:
        return self.faults[name].pop(0) if self.faults[name] else Fault()


def digest_of(data: bytes) -> str:
    if len(data) >= LFS_FROM_BYTES:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        with self.hub.busy_lock:
            self.hub.busy += 1
        try:
            self._get()
        finally:
            with self.hub.busy_lock:
                self.hub.busy -= 1

    def _get(self) -> None:
        path = unquote(urlsplit(self.path).path)
        is_cdn = f":{self.server.server_port}" in self.hub.cdn_url
        origin = "cdn" if is_cdn else "hub"
        self.hub.requests.append((origin, path, self.headers.get("Range", ""), self.headers.get("Authorization")))
        if match := re.fullmatch(r"/api/models/(.+)/revision/(.+)", path):
            self._list(match[1], match[2])
        elif match := re.fullmatch(r"/(.+)/resolve/([0-9a-f]{40})/(.+)", path):
            self._file(match[1], match[2], match[3], is_cdn)
        else:
            self._refuse(404, "RepoNotFound")

    def _list(self, repo: str, revision: str) -> None:
        if (fault := self.hub.take_fault("api")).status:
            return self._answer(fault.status, fault.body, fault.headers)
        repository = self.hub.repositories.get(repo)
        if repository is None or (repository.token and not repository.gated and not self._is_let_in(repository)):
            return self._refuse(404 if "Authorization" in self.headers else 401, "RepoNotFound")
        if revision not in ("main", repository.commit):
            return self._refuse(404, "RevisionNotFound")
        siblings = []
        for name, data in repository.files.items():
            size = repository.claimed_sizes.get(name, len(data))
            sibling = {"rfilename": name, "size": size, "blobId": digest_of(data)}
            if len(data) >= LFS_FROM_BYTES:
                sibling |= {"blobId": "f" * 40, "lfs": {"size": size, "sha256": digest_of(data), "pointerSize": 130}}
            siblings.append(sibling)
        body = {"id": repo, "sha": repository.commit, "siblings": siblings}
        return self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, repo: str, commit: str, name: str, is_cdn: bool) -> None:
        repository = self.hub.repositories[repo]
        if not is_cdn:
            if repository.token and not self._is_let_in(repository):
                given = self.headers.get("Authorization", "").removeprefix("Bearer ")
                known = given in (repository.token, *repository.members) or given.startswith("hf_known")
                return self._refuse(403 if known else 401, "GatedRepo")
            if len(repository.files[name]) >= LFS_FROM_BYTES:
                address = f"{self.hub.cdn_url}/{repo}/resolve/{commit}/{name}?signature=secret"
                return self._answer(302, b"", {"Location": address, "X-Repo-Commit": commit})
        return self._bytes(name, repository.files[name])

    def _bytes(self, name: str, data: bytes) -> None:
        fault = self.hub.take_fault(name)
        if fault.status:
            return self._answer(fault.status, fault.body, fault.headers)
        if fault.announce_cut:
            data = data[: len(data) // 2]
        if fault.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start, status, headers = 0, 200, {}
        if (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) and not fault.no_ranges:
            start, status = int(asked[1]), 206
            if start >= len(data):
                return self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        self._head(status, len(body), headers)
        self._send(name, body, fault)
        return None

    def _send(self, name: str, body: bytes, fault: Fault) -> None:
        limit = max(fault.drop_after, fault.stall_after)
        wanted = body if limit < 0 else body[:limit]
        began_s = time.monotonic()
        for at in range(0, len(wanted), _CHUNK_BYTES):
            if self.hub.bytes_per_s:
                self.hub.closing.wait(max(0.0, began_s + at / self.hub.bytes_per_s - time.monotonic()))
            chunk = wanted[at : at + _CHUNK_BYTES]
            try:
                self.wfile.write(chunk)
                self.wfile.flush()
            except OSError:
                self.close_connection = True
                return
            self.hub.served[name] += len(chunk)
        if fault.stall_after >= 0:
            self.hub.closing.wait()
        if limit >= 0:
            self.close_connection = True

    def _is_let_in(self, repository: Repository) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return given in (repository.members if repository.gated else (repository.token,))

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b'{"error": "refused"}', {"X-Error-Code": code, "Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, len(body), headers)
        self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")  # so that no thread is left waiting for a next request
        self.end_headers()
