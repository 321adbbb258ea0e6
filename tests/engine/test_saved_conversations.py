"""A conversation that was left goes on from disk as if it had not been: through the real engine's process."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import pytest

from app.engine.cache_store import CacheStore
from app.engine.child import EngineChild
from app.engine.command import engine_command
from app.engine.conversation_cache import MOST_CONVERSATIONS
from app.engine.protocol import Forget, KeepCaches, Load, Loaded, Prefill, Progress, Quit, Ready
from tests.engine.child_chat import GREEDY, Chat, finished, with_sampling
from tests.tiny_model import write_tiny_model

GB = 10**9
TURNS = ("Tell me a story about a fox, a bear and the moon.", "And then?", "What did the moon say to the bear?")


VISIBLE = 94
"""The tokens below are the visible ASCII characters."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that write visible ASCII alone, one token a character: the text of a reply is the same tokens again."""
    folder = tmp_path_factory.mktemp("models")
    made = {name: write_tiny_model(folder / name, name) for name in ("qwen2", "gemma3_text")}
    for path in made.values():
        file = str(path / "model.safetensors")
        weights = dict(mx.load(file))
        for name in weights.keys() & {"model.embed_tokens.weight", "lm_head.weight"}:
            rows = mx.arange(len(weights[name]))[:, None]
            weights[name] = mx.where(rows < VISIBLE, weights[name], 0)
        mx.eval(weights)
        mx.save_safetensors(file, weights, {"format": "mlx"})
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def one_home(home: Path, nibble_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model is calibrated once."""
    monkeypatch.setenv("NIBBLE_HOME", str(home))


@contextmanager
def engine(caches: Path, *chat_ids: str, limit_bytes: int = GB) -> Iterator[EngineChild]:
    with EngineChild(engine_command()) as child:
        assert isinstance(child.event(), Ready)
        child.send(KeepCaches(str(caches), limit_bytes, chat_ids))
        yield child


def load(child: EngineChild, folder: Path) -> None:
    assert isinstance(child.ask(Load(f"load {folder}", str(folder)))[-1], Loaded)


def opened_again(chat: Chat, child: EngineChild) -> Chat:
    again = Chat(child, chat.chat_id)
    again.messages = list(chat.messages)
    return again


def wait_for(what: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_going_on_from_disk_is_going_on(models: dict[str, Path], tmp_path: Path) -> None:
    """Greedy tokens and figures, of layers that grow and of rings that have long turned over."""
    with engine(tmp_path) as child:
        load(child, models["gemma3_text"])
        left, stayed = Chat(child, "left"), Chat(child, "stayed")
        for chat in (left, stayed):
            chat.say(TURNS[0])
            before = finished(chat.say(TURNS[1])).figures
        there = finished(stayed.say(TURNS[2]))
        assert child.quit() == 0
        assert child.stderr == ""
    with engine(tmp_path, "left") as child:
        load(child, models["gemma3_text"])
        events = opened_again(left, child).say(TURNS[2])
        here = finished(events)
    assert here.token_ids == there.token_ids
    assert here.text == there.text
    figures = here.figures
    assert figures.disk_tokens == figures.reused_tokens == before.cache.tokens == there.figures.reused_tokens
    assert figures.prefilled_tokens == there.figures.prefilled_tokens < 60
    assert there.figures.disk_tokens == 0
    assert figures.cache.tokens == there.figures.cache.tokens
    assert figures.cache.used_bytes == there.figures.cache.used_bytes
    assert {(e.reused_tokens, e.disk_tokens) for e in events if isinstance(e, Prefill | Progress)} == {
        (figures.disk_tokens, figures.disk_tokens)
    }
    assert not CacheStore(tmp_path, GB).path("stayed").exists(), "of a conversation that is gone nothing stays"


def test_a_model_finds_its_own_and_no_others(models: dict[str, Path], tmp_path: Path) -> None:
    path = CacheStore(tmp_path, GB).path("a")
    with engine(tmp_path) as child:
        load(child, models["qwen2"])
        chat = Chat(child, "a")
        chat.say(TURNS[0])
        load(child, models["gemma3_text"])
        qwens = path.read_bytes()
        load(child, models["qwen2"])
        assert finished(chat.say(TURNS[1])).figures.disk_tokens > 0
        path.write_bytes(qwens)
        load(child, models["gemma3_text"])
        assert finished(chat.say(TURNS[2])).figures.reused_tokens == 0
        load(child, models["qwen2"])
        assert finished(chat.say("Go on.")).figures.reused_tokens == 0, "the file is the other model's now"
        assert child.quit() == 0
        assert child.stderr == ""


def test_the_conversation_that_had_to_leave_comes_back_and_a_damaged_file_does_not(
    models: dict[str, Path], tmp_path: Path
) -> None:
    with engine(tmp_path) as child:
        load(child, models["qwen2"])
        chats = [Chat(child, str(number)) for number in range(MOST_CONVERSATIONS + 2)]
        for chat in chats:
            chat.say(TURNS[0])
        wait_for(lambda: len(list(tmp_path.glob("*.safetensors"))) == len(chats))
        first, second = chats[:2]
        assert finished(first.say(TURNS[1])).figures.disk_tokens > 0
        assert finished(first.say(TURNS[2])).figures.disk_tokens == 0, "it is in memory now"
        path = CacheStore(tmp_path, GB).path(second.chat_id)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        assert finished(second.say(TURNS[1])).figures.reused_tokens == 0
        assert not path.exists()
        assert child.quit() == 0
        assert "is deleted: it is damaged: its bytes are not those that were written" in child.stderr
        assert path.exists()


def test_a_pause_saves_what_a_killed_engine_then_does_not_lose(models: dict[str, Path], tmp_path: Path) -> None:
    with engine(tmp_path) as child:
        load(child, models["qwen2"])
        chat = Chat(child, "a")
        figures = finished(chat.say(TURNS[0], with_sampling(GREEDY, max_tokens=200))).figures
        wait_for(CacheStore(tmp_path, GB).path("a").exists)
        child.process.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    with engine(tmp_path, "a") as child:
        load(child, models["qwen2"])
        assert finished(opened_again(chat, child).say(TURNS[1])).figures.disk_tokens == figures.cache.tokens


def test_what_is_deleted_or_switched_off_leaves_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    """Also where nothing is waited for: the window deletes for good as it ends."""

    def there() -> list[str]:
        return [name for name in "abc" if CacheStore(tmp_path, GB).path(name).exists()]

    with engine(tmp_path) as child:
        load(child, models["qwen2"])
        for name in "abc":
            Chat(child, name).say(TURNS[0])
        load(child, models["gemma3_text"])
        assert there() == ["a", "b", "c"]
        child.send(Forget("b"))
        assert child.quit() == 0
    assert there() == ["a", "c"]
    with engine(tmp_path, "a", "c") as child:
        for request in (Forget("c"), Quit()):
            child.send(request)
        assert child.wait() == 0
        assert child.stderr == ""
    assert there() == ["a"]
    with engine(tmp_path, "a") as child:
        load(child, models["qwen2"])
        chat = Chat(child, "a")
        chat.say(TURNS[0])
        child.send(KeepCaches(str(tmp_path), 0, ("a",)))
        assert finished(chat.say(TURNS[1])).figures.reused_tokens > 0, "memory is another matter"
        assert child.quit() == 0
    assert [*tmp_path.iterdir()] == []
