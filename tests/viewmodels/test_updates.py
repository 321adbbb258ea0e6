"""The question for a newer version, against a server on this machine."""

import json
import socket

import pytest

from app.viewmodels import updates
from app.viewmodels.updates import NewVersion, Updates, newest_release
from tests.releases_server import releases_server

PAGE = "https://example.org/nibble/releases/v9"


def release(tag: str, page: str = PAGE) -> bytes:
    return json.dumps({"tag_name": tag, "html_url": page, "body": "news"}).encode()


@pytest.fixture
def ask(qtbot):
    """Ask `address` as version 1.2.3; return which signal came and what it said."""
    made = []

    def question(address: str) -> tuple[str, list]:
        asked = Updates(address, "1.2.3")
        made.append(asked)
        came: list[tuple[str, list]] = []
        asked.newer_found.connect(lambda *said: came.append(("newer", list(said))))
        asked.is_newest.connect(lambda *said: came.append(("newest", list(said))))
        asked.failed.connect(lambda *said: came.append(("failed", list(said))))
        asked.check()
        qtbot.waitUntil(lambda: bool(came))
        qtbot.wait(20)
        assert not asked.is_asking
        assert len(came) == 1, "one question, one answer"
        return came[0]

    yield question
    for asked in made:
        asked.deleteLater()


@pytest.mark.parametrize(("tag", "version"), [("v1.2.4", "1.2.4"), ("1.10.0", "1.10.0"), ("v2.0.0", "2.0.0")])
def test_a_newer_version_is_found(ask, tag: str, version: str) -> None:
    seen: list[dict[str, str]] = []
    with releases_server(200, release(tag), seen) as address:
        assert ask(address) == ("newer", [NewVersion(version, PAGE)])
    assert seen[0]["User-Agent"] == "Nibble/1.2.3"
    assert "Cookie" not in seen[0]


@pytest.mark.parametrize("tag", ["v1.2.3", "v1.2.2", "v0.99.99"])
def test_the_same_or_an_older_one_is_no_news(ask, tag: str) -> None:
    with releases_server(200, release(tag)) as address:
        assert ask(address) == ("newest", [])


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (404, b"", "No release of Nibble has been published"),
        (500, b"", "the server answered 500"),
        (200, b"<html>", "says nothing that Nibble understands"),
        (200, b"[]", "says nothing that Nibble understands"),
        (200, release("nightly"), "says nothing that Nibble understands"),
        (200, release("v9.0.0", "file:///etc/passwd"), "says nothing that Nibble understands"),
        (200, release("v9.0.0", "javascript:alert(1)"), "says nothing that Nibble understands"),
        (200, b" " * 2_000_000, "could not be read"),
    ],
)
def test_what_goes_wrong_is_said(ask, status: int, content: bytes, words: str) -> None:
    with releases_server(status, content) as address:
        kind, said = ask(address)
    assert kind == "failed"
    assert words in said[0]


def test_nobody_answers(ask) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        kind, said = ask(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert kind == "failed"
    assert "could not be read" in said[0]


def test_a_server_that_is_silent_is_given_up(ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "TIMEOUT_MS", 200)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kind, said = ask(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert kind == "failed"
    assert "could not be read" in said[0]


def test_a_program_that_knows_no_address_says_so(ask) -> None:
    kind, said = ask("")
    assert kind == "failed"
    assert "does not know where" in said[0]


def test_closing_drops_the_question(qtbot) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = Updates(f"http://127.0.0.1:{silent.getsockname()[1]}/", "1.2.3")
        with qtbot.assertNotEmitted(asked.failed, wait=50):
            asked.check()
            asked.check()
            asked.close()
        asked.deleteLater()


def test_only_web_pages_are_taken() -> None:
    assert newest_release(release("v1.0.0", "ftp://example.org/")) is None
    assert newest_release(release("v1.0.0")) == NewVersion("1.0.0", PAGE)
