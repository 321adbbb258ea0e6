"""The access token: in a keychain where there is one, for the session where there is none."""

import asyncio

import keyring
import pytest

from app.catalogue.access_token import ACCOUNT, SERVICE, AccessToken, is_token
from app.errors import NibbleError
from app.viewmodels.hub_token import HubToken
from tests.keychain import Keychain


@pytest.mark.parametrize("text", ["hf_AbC123", "a.b-c_d~e+f/g="])
def test_what_can_be_a_token(text):
    assert is_token(text)


@pytest.mark.parametrize("text", ["", "two words", "hf_\nx", "hf_é", "x" * 501])
def test_what_can_be_none(text):
    assert not is_token(text)
    with pytest.raises(NibbleError):
        AccessToken().save(text)


def test_a_keychain_keeps_it_from_session_to_session(keychain):
    AccessToken().save(" hf_abc\n")
    assert keychain.kept == {(SERVICE, ACCOUNT): "hf_abc"}
    token = AccessToken()
    assert token.has_keychain()
    assert [token.read(), token.read()] == ["hf_abc", "hf_abc"]
    assert keychain.asked == 2  # once to keep it, once to read it
    token.remove()
    token.remove()
    assert keychain.kept == {}
    assert (token.read(), AccessToken().read()) == (None, None)


@pytest.mark.parametrize("backend", ["fail", "null"])
def test_without_a_keychain_it_lasts_as_long_as_the_program(keychain, backend):
    keyring.set_keyring(keyring.core.load_keyring(f"keyring.backends.{backend}.Keyring"))
    token = AccessToken()
    assert not token.has_keychain()
    assert token.read() is None
    token.save("hf_abc")
    assert token.read() == "hf_abc"
    assert AccessToken().read() is None
    token.remove()
    assert token.read() is None


def test_a_locked_keychain_is_told_and_asked_again_later(keychain):
    token = AccessToken()
    keychain.is_locked = True
    for call in (token.read, lambda: token.save("hf_abc")):
        with pytest.raises(NibbleError, match="the person said no") as caught:
            call()
        assert "hf_abc" not in str(caught.value)
    assert token.read() == "hf_abc"  # it was given: this session has it
    keychain.is_locked = False
    assert AccessToken().read() is None


def until(loop, holds) -> None:
    async def wait() -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.005)

    loop.run_until_complete(wait())


def test_the_views_learn_whether_there_is_one(loop, keychain):
    token = HubToken(AccessToken())
    assert (token.is_there, token.has_keychain) == (None, None)
    token.look()
    assert token.is_busy
    until(loop, lambda: not token.is_busy)
    assert (token.is_there, token.has_keychain) == (False, True)
    token.save("hf_abc")
    until(loop, lambda: token.is_there)
    given = []
    token.read(given.append)
    until(loop, lambda: given)
    assert given == ["hf_abc"]
    token.remove()
    until(loop, lambda: token.is_there is False and not token.is_busy)
    assert keychain.kept == {}


def test_a_keychain_that_waits_for_a_person_does_not_stop_the_window(loop, keychain):
    keychain.opening.clear()
    token = HubToken(AccessToken())
    token.look()
    turns = []

    async def live_on() -> None:
        for _ in range(5):
            await asyncio.sleep(0.01)
            turns.append(token.is_busy)

    loop.run_until_complete(live_on())
    assert turns == [True] * 5
    keychain.opening.set()
    until(loop, lambda: not token.is_busy)
    assert token.is_there is False


@pytest.mark.parametrize("broken", [False, True])
def test_a_refusal_is_told_and_reads_as_none(loop, keychain, broken, monkeypatch):
    if broken:
        monkeypatch.setattr(Keychain, "_check", lambda _self: 1 / 0)
    keychain.is_locked = True
    token = HubToken(AccessToken())
    failures, given = [], []
    token.failed.connect(lambda *failure: failures.append(failure))
    token.read(given.append)
    until(loop, lambda: given)
    assert given == [None]
    assert ("ZeroDivisionError" if broken else "the person said no") in failures[0][0]
    assert failures[0][1]
