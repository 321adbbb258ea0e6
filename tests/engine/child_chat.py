"""One conversation with an engine's process, for the tests that hold one."""

from dataclasses import replace
from typing import Any

from app.chat.message import Message, Role
from app.chat.options import ChatOptions, Sampling
from app.engine.child import EngineChild
from app.engine.protocol import Event, Failed, Finished, Generate

GREEDY = ChatOptions(sampling=Sampling(temperature=0.0, max_tokens=12))


class Chat:
    """One conversation with a child."""

    def __init__(self, child: EngineChild, chat_id: str) -> None:
        self.child = child
        self.chat_id = chat_id
        self.messages: list[Message] = []
        self._sent = 0

    def request(self, text: str = "", options: ChatOptions = GREEDY, reuse_cache: bool = True) -> Generate:
        """Build the request for `text` as the only turn, or for the turns so far."""
        self._sent += 1
        if text:
            self.messages = [Message(Role.USER, text)]
        return Generate(f"{self.chat_id} {self._sent}", self.chat_id, tuple(self.messages), options, reuse_cache)

    def events(self, text: str = "", options: ChatOptions = GREEDY, reuse_cache: bool = True) -> list[Event]:
        return self.child.ask(self.request(text, options, reuse_cache))

    def say(self, text: str, options: ChatOptions = GREEDY) -> list[Event]:
        """Add a turn to the conversation and the reply after it."""
        self.messages.append(Message(Role.USER, text))
        events = self.events(options=options)
        self.messages.append(Message(Role.ASSISTANT, finished(events).text))
        return events


def finished(events: list[Event]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished), last
    return last


def skip_to(child: EngineChild, kind: type[Event]) -> Event:
    while not isinstance(event := child.event(), kind):
        assert not isinstance(event, Failed | Finished), event
    return event


def with_sampling(options: ChatOptions, **sampling: Any) -> ChatOptions:
    return replace(options, sampling=replace(options.sampling, **sampling))
