"""The access token: in a keychain where there is one, for the session where there is none."""

import asyncio
import subprocess

import pytest

from app.catalogue.token_protocol import (
    ForgetToken,
    KeepToken,
    ReadToken,
    TokenAnswer,
    TokenRefused,
    decode_answer,
    decode_request,
    encode,
    is_token,
    token_command,
)
from app.viewmodels.hub_token import HubToken

SECRET = "hf_abc"


class Desk:
    """A token as the views see it, and what it said."""

    def __init__(self, loop) -> None:
        self._loop = loop
        self.token = HubToken(token_command())
        self.failures: list[tuple[str, str]] = []
        self.token.failed.connect(lambda *failure: self.failures.append(failure))

    def settle(self) -> None:
        async def wait() -> None:
            async with asyncio.timeout(60):
                while self.token.is_busy:
                    await asyncio.sleep(0.01)

        self._loop.run_until_complete(wait())

    def read(self) -> str | None:
        given = []
        self.token.read(given.append)
        self.settle()
        (token,) = given
        return token

    def save(self, token: str) -> None:
        self.token.save(token)
        self.settle()

    def remove(self) -> None:
        self.token.remove()
        self.settle()


@pytest.fixture
def desk_of(loop):
    made = []

    def make() -> Desk:
        made.append(Desk(loop))
        return made[-1]

    yield make
    for desk in made:
        loop.run_until_complete(desk.token.close())


@pytest.mark.parametrize("text", ["hf_AbC123", "a.b-c_d~e+f/g="])
def test_what_can_be_a_token(text):
    assert is_token(text)


@pytest.mark.parametrize("text", ["", "two words", "hf_\nx", "hf_é", "x" * 501])
def test_what_can_be_none(loop, text):
    assert not is_token(text)
    desk = Desk(loop)
    desk.token.save(text)
    assert not desk.token.is_busy
    assert "no access token" in desk.failures[0][0]


@pytest.mark.parametrize(
    "item", [ReadToken(), KeepToken(SECRET), ForgetToken(), TokenAnswer(True, SECRET), TokenRefused("no", "try")]
)
def test_what_is_said_is_heard_and_shows_no_token(item):
    decode = decode_answer if isinstance(item, TokenAnswer | TokenRefused) else decode_request
    assert decode(encode(item)) == item
    assert SECRET not in repr(item)


def test_a_keychain_keeps_it_from_session_to_session(desk_of, keychain):
    desk = desk_of()
    assert (desk.token.is_there, desk.token.has_keychain) == (None, None)
    desk.save(f" {SECRET}\n")
    assert keychain.token == SECRET
    assert (desk.token.is_there, desk.token.has_keychain) == (True, True)
    later = desk_of()
    assert [later.read(), later.read()] == [SECRET, SECRET]
    assert keychain.asked == 2  # once to keep it, once to read it
    later.remove()
    assert keychain.token is None
    assert (later.read(), later.token.is_there) == (None, False)
    later.remove()
    assert later.failures == []


def test_without_a_keychain_it_lasts_as_long_as_the_program(desk_of):
    desk = desk_of()
    assert desk.read() is None
    assert (desk.token.is_there, desk.token.has_keychain) == (False, False)
    desk.save(SECRET)
    assert desk.read() == SECRET
    assert desk_of().read() is None
    desk.remove()
    assert desk.read() is None


@pytest.mark.parametrize(
    ("mood", "said"), [("locked", "the person said no"), ("broken", "ZeroDivisionError"), ("dead", "exit status 5")]
)
def test_a_keychain_that_refuses_is_told_and_asked_again_later(desk_of, keychain, mood, said, caplog):
    caplog.set_level(0)
    desk = desk_of()
    keychain.change(mood=mood, token=SECRET)
    assert desk.read() is None
    assert said in desk.failures[0][0]
    assert desk.failures[0][1]
    keychain.change(mood="")
    assert desk.read() == SECRET
    keychain.change(mood=mood)
    desk.save("hf_new")
    assert len(desk.failures) == 2
    assert desk.read() == "hf_new"  # it was given: this session has it
    assert "hf_" not in str(desk.failures) + caplog.text


def test_a_keychain_that_waits_for_a_person_does_not_stop_the_window(loop, desk_of, keychain):
    desk = desk_of()
    keychain.change(mood="thinking", token=SECRET)
    desk.token.look()
    turns = []

    async def live_on() -> None:
        while not keychain.asked:
            await asyncio.sleep(0.01)
        for _ in range(5):
            await asyncio.sleep(0.01)
            turns.append(desk.token.is_busy)

    loop.run_until_complete(live_on())
    assert turns == [True] * 5
    keychain.change(mood="")
    desk.settle()
    assert desk.token.is_there


def test_nor_does_it_stop_the_end_of_the_program(loop, desk_of, keychain):
    desk = desk_of()
    keychain.change(mood="thinking")
    desk.token.look()

    async def end() -> None:
        while not keychain.asked:
            await asyncio.sleep(0.01)
        await desk.token.close()

    loop.run_until_complete(end())
    assert not desk.token.is_busy
    assert desk.failures == []


def test_a_request_that_cannot_be_read_is_not_repeated():
    done = subprocess.run(
        token_command(), input=f'{{"token": "{SECRET}"}}\n', capture_output=True, text=True, check=True
    )
    assert isinstance(decode_answer(done.stdout), TokenRefused)
    assert SECRET not in done.stdout + done.stderr
