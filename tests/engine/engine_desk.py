"""The engines that the contract is tried on, each in a real child process with a model open."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.engine.child import EngineChild
from app.engine.command import EngineKind, engine_command
from app.engine.protocol import Forget, Load, Loaded, Ready, decode_event
from tests.engine.child_chat import Chat
from tests.tiny_model import write_tiny_model


class EngineDesk:
    """Subclasses name the engine and bring a model folder and prompts that take it a while."""

    kind: EngineKind
    long_prompt: str
    """Takes so long to read that a Cancel sent at its first sign arrives in prefill."""
    long_reply: str
    """A prompt whose reply goes on for hundreds of tokens, if it may."""

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def shared(cls, folder: Path) -> Iterator[EngineChild]:
        """A process with a model open, for the tests that leave it as they found it."""
        with EngineChild(engine_command(cls.kind)) as child:
            ready = child.event()
            assert isinstance(ready, Ready)
            assert isinstance(child.ask(Load("first", str(folder)))[-1], Loaded)
            yield child
            assert child.quit() == 0
            for line in child.lines:
                decode_event(line)

    @pytest.fixture
    def chat(self, shared: EngineChild, request: pytest.FixtureRequest) -> Iterator[Chat]:
        chat = Chat(shared, request.node.name)
        yield chat
        shared.send(Forget(chat.chat_id))

    @pytest.fixture
    def fresh(self) -> Iterator[EngineChild]:
        """A process of its own, no model open."""
        with EngineChild(engine_command(self.kind)) as child:
            assert isinstance(child.event(), Ready)
            yield child


class OnFakeEngine(EngineDesk):
    kind = "fake"
    long_prompt = "[prefill-ms 5] " + "once upon a time " * 400
    long_reply = "[tokens 2000] Tell me a long story."

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("a model")


class OnMlxEngine(EngineDesk):
    kind = "child"
    long_prompt = "once upon a time " * 500
    long_reply = "Tell me a long story."

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_tiny_model(
            tmp_path_factory.mktemp("models") / "tiny", hidden_size=256, max_position_embeddings=16384
        )
