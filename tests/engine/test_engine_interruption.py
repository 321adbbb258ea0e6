"""What every engine must do where a reply is cut short: by Cancel, Quit, a signal or the end of its input."""

from pathlib import Path

from app.chat.message import Message, Role
from app.engine.child import EngineChild
from app.engine.protocol import (
    Cancel,
    Failed,
    Load,
    Prefill,
    Quit,
    Token,
)
from tests.engine.child_chat import GREEDY, Chat, finished, skip_to, with_sampling
from tests.engine.engine_desk import EngineDesk, OnFakeEngine, OnMlxEngine


class InterruptionContract(EngineDesk):
    # Cancel

    def test_cancel_in_prefill(self, chat: Chat) -> None:
        request = chat.request(self.long_prompt)
        chat.child.send(request)
        skip_to(chat.child, Prefill)
        chat.child.send(Cancel(request.request_id))
        reply = finished(chat.child.answer(request.request_id))
        assert reply.figures.finish_reason == "cancelled"
        assert reply.text == ""
        assert reply.token_ids == ()
        assert reply.figures.cache.tokens < reply.figures.prompt_tokens
        assert finished(chat.events("Hello.")).figures.finish_reason != "cancelled"

    def test_cancel_in_decode_keeps_the_reply_and_the_cache(self, chat: Chat) -> None:
        request = chat.request(self.long_reply, with_sampling(GREEDY, max_tokens=2000))
        chat.child.send(request)
        first = skip_to(chat.child, Token)
        chat.child.send(Cancel(request.request_id))
        rest = chat.child.answer(request.request_id)
        reply = finished(rest)
        assert reply.figures.finish_reason == "cancelled"
        assert 0 < reply.figures.generated_tokens < 2000
        assert reply.text == "".join(e.text for e in [first, *rest] if isinstance(e, Token))
        chat.messages.append(Message(Role.ASSISTANT, reply.text))
        following = finished(chat.say("And then?")).figures
        assert following.finish_reason != "cancelled"
        assert following.reused_tokens >= reply.figures.prompt_tokens

    def test_cancel_reaches_a_request_that_waits(self, chat: Chat) -> None:
        running = chat.request(self.long_reply, with_sampling(GREEDY, max_tokens=2000))
        waiting = chat.request("Hello.", reuse_cache=False)
        chat.child.send(running)
        skip_to(chat.child, Token)
        chat.child.send(waiting)
        chat.child.send(Cancel(waiting.request_id))
        chat.child.send(Cancel(running.request_id))
        assert finished(chat.child.answer(running.request_id)).figures.finish_reason == "cancelled"
        reply = finished(chat.child.answer(waiting.request_id))
        assert reply.figures.finish_reason == "cancelled"
        assert reply.text == ""

    def test_a_cancel_that_comes_too_late_does_nothing(self, chat: Chat) -> None:
        request = chat.request("Hello.")
        finished(chat.child.ask(request))
        chat.child.send(Cancel(request.request_id))
        assert finished(chat.events("Hello again.")).figures.finish_reason != "cancelled"

    # The process

    def test_a_bad_line_fails_without_harm(self, shared: EngineChild, chat: Chat) -> None:
        shared.send_line('{"type": "Gen')
        failed = shared.event()
        assert isinstance(failed, Failed)
        assert failed.request_id == ""
        finished(chat.events("Hello."))

    def test_end_of_stdin_in_a_reply_ends_the_process(self, fresh: EngineChild, folder: Path) -> None:
        fresh.ask(Load("l", str(folder)))
        fresh.send(Chat(fresh, "c").request(self.long_reply, with_sampling(GREEDY, max_tokens=2000)))
        skip_to(fresh, Token)
        fresh.close_stdin()
        assert fresh.wait(10) == 0

    def test_quit_in_a_reply_ends_the_process(self, fresh: EngineChild, folder: Path) -> None:
        fresh.ask(Load("l", str(folder)))
        fresh.send(Chat(fresh, "c").request(self.long_prompt))
        skip_to(fresh, Prefill)
        fresh.send(Quit())
        assert fresh.wait(10) == 0
        assert "Traceback" not in fresh.stderr

    def test_sigterm_in_a_reply_ends_the_process_orderly(self, fresh: EngineChild, folder: Path) -> None:
        fresh.ask(Load("l", str(folder)))
        fresh.send(Chat(fresh, "c").request(self.long_reply, with_sampling(GREEDY, max_tokens=2000)))
        skip_to(fresh, Token)
        fresh.process.terminate()
        assert fresh.wait(10) == 0
        assert "Traceback" not in fresh.stderr


class TestFakeEngine(InterruptionContract, OnFakeEngine):
    pass


class TestMlxEngine(InterruptionContract, OnMlxEngine):
    pass
