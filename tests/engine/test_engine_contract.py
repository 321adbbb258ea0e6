"""What every engine must do with models and replies, said once and run through a real child process on each of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from app.chat.figures import CacheFigures
from app.chat.message import Message, Role
from app.chat.options import CacheMode
from app.engine.child import EngineChild
from app.engine.protocol import (
    Cancel,
    Estimate,
    Estimated,
    Failed,
    Finished,
    Forget,
    Load,
    Loaded,
    Loading,
    Prefill,
    Progress,
    Token,
)
from tests.engine.child_chat import GREEDY, Chat, finished, skip_to, with_sampling
from tests.engine.engine_desk import EngineDesk, OnFakeEngine, OnMlxEngine
from tests.tiny_model import config_of

DRAWN = with_sampling(GREEDY, temperature=1.0, top_p=1.0, max_tokens=24, seed=5)


class EngineContract(EngineDesk):
    # Loading

    def test_generate_before_load_fails_with_a_hint(self, fresh: EngineChild) -> None:
        (failed,) = Chat(fresh, "c").events("hello")
        assert isinstance(failed, Failed)
        assert failed.hint
        assert not failed.detail
        assert fresh.quit() == 0

    def test_load_tells_steps_then_the_model(self, shared: EngineChild, folder: Path) -> None:
        *steps, loaded = shared.ask(Load("again", str(folder)))
        assert isinstance(loaded, Loaded)
        assert steps
        for step in steps:
            assert isinstance(step, Loading)
            assert step.step
            assert step.fraction == -1 or 0 <= step.fraction <= 1
        model = loaded.model
        assert model.name == folder.name
        assert model.path == str(folder)
        assert model.parameters > 0
        assert model.weight_bytes > 0
        assert 0 < model.int4_layers <= model.layers
        assert model.context_limit_tokens > 0
        assert model.outlook is not None
        assert model.outlook.memory_bytes > model.weight_bytes
        assert model.outlook.memory_source

    def test_an_unknown_folder_fails_in_words_and_the_process_lives_on(
        self, fresh: EngineChild, folder: Path, tmp_path: Path
    ) -> None:
        failed = fresh.ask(Load("x", str(tmp_path / "nowhere")))[-1]
        assert isinstance(failed, Failed)
        assert "nowhere" in failed.message
        assert failed.hint
        assert not failed.detail
        assert isinstance(fresh.ask(Load("y", str(folder)))[-1], Loaded)

    def test_a_folder_that_fails_leaves_the_model_before_it_open(self, shared: EngineChild, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        assert isinstance(shared.ask(Load("bad", str(empty)))[-1], Failed)
        assert finished(Chat(shared, "after a bad folder").events("hello")).token_ids

    def test_opening_can_be_stopped_and_the_model_before_it_stays(self, shared: EngineChild, folder: Path) -> None:
        """Both wait behind a reply, so that the Cancel is there before opening begins."""
        chat = Chat(shared, "before opening")
        shared.send(chat.request(self.long_reply, replace(DRAWN, sampling=replace(DRAWN.sampling, max_tokens=200))))
        shared.send(Load("stopped", str(folder)))
        shared.send(Cancel("stopped"))
        while not isinstance(event := shared.event(), Finished):
            assert not isinstance(event, Failed)
        failed = shared.event()
        assert isinstance(failed, Failed)
        assert (failed.request_id, failed.message) == ("stopped", "Opening the model was stopped.")
        assert finished(chat.events("hello")).token_ids

    def test_what_a_model_will_take_is_said_before_it_is_here(self, shared: EngineChild) -> None:
        needs = [
            shared.ask(Estimate(f"estimate {layers}", "", json.dumps(config_of("llama", num_hidden_layers=layers))))[-1]
            for layers in (2, 4)
        ]
        assert all(isinstance(n, Estimated) for n in needs)
        small, large = (n.needs for n in needs)
        assert (small.architecture, small.layers, small.context_limit_tokens) == ("llama", 2, 2048)
        assert 0 < small.weight_bytes < large.weight_bytes
        assert large.outlook.fp16.token_bytes == 2 * small.outlook.fp16.token_bytes
        for mode in CacheMode:
            assert small.longest(mode, 32) == 2048
            assert small.can_open(mode, 32)

    def test_a_model_of_which_nothing_is_known_fails_in_words(self, shared: EngineChild, tmp_path: Path) -> None:
        for request in (Estimate("none", ""), Estimate("no folder", str(tmp_path / "nowhere"))):
            failed = shared.ask(request)[-1]
            assert isinstance(failed, Failed)
            assert failed.hint
            assert not failed.detail

    def test_figures_are_live_while_a_long_prompt_is_read(self, chat: Chat) -> None:
        events = chat.events(self.long_prompt, reuse_cache=False)
        first = next(i for i, e in enumerate(events) if isinstance(e, Token))
        reading = [e for e in events[:first] if isinstance(e, Progress)]
        assert reading
        assert all(e.generated_tokens == 0 and e.decode_tokens_per_s == 0 for e in reading)
        assert [e.cache.tokens for e in reading] == sorted({e.cache.tokens for e in reading})
        assert reading[-1].cache.used_bytes > 0

    # A reply

    def test_a_reply_is_prefill_tokens_finished(self, chat: Chat) -> None:
        events = chat.events("Tell me a story.")
        *before, finished = events
        assert isinstance(finished, Finished)
        order = [type(e) for e in before if not isinstance(e, Progress)]
        assert order == sorted(order, key=[Prefill, Token].index)
        assert {Prefill, Token} == set(order)
        tokens = [e for e in before if isinstance(e, Token)]
        assert "".join(t.text for t in tokens) == finished.text
        shown = tuple(i for t in tokens for i in t.token_ids)
        assert shown == finished.token_ids[: len(shown)]
        assert len(finished.token_ids) - len(shown) <= 1, "only the end-of-text token may go unshown"

    def test_prefill_counts_up_to_the_whole_prompt(self, chat: Chat) -> None:
        events = chat.events("Tell me a story.")
        prefill = [e for e in events if isinstance(e, Prefill)]
        done = [p.done_tokens for p in prefill]
        assert done == sorted(done)
        assert done[0] == 0
        assert done[-1] == prefill[-1].total_tokens
        figures = finished(events).figures
        assert {p.total_tokens for p in prefill} == {figures.prefilled_tokens}
        assert {p.reused_tokens for p in prefill} == {0}

    @pytest.mark.parametrize("group_size", [32, 64])
    @pytest.mark.parametrize("mode", list(CacheMode))
    def test_figures_agree_with_each_other(self, chat: Chat, mode: CacheMode, group_size: int) -> None:
        options = replace(GREEDY, cache_mode=mode, group_size=group_size)
        reply = finished(chat.events("Tell me a story.", options))
        figures = reply.figures
        assert figures.requested_mode is mode
        assert figures.prompt_tokens == figures.reused_tokens + figures.prefilled_tokens
        assert figures.generated_tokens == len(reply.token_ids)
        assert 0 < figures.ttft_s <= figures.elapsed_s
        assert figures.prefill_tokens_per_s > 0
        speed = (figures.generated_tokens - 1) / (figures.elapsed_s - figures.ttft_s)
        assert figures.decode_tokens_per_s == pytest.approx(speed, rel=0.2)
        assert figures.max_tokens == 12
        assert figures.temperature == 0
        assert figures.memory.peak_bytes >= figures.memory.active_bytes > 0
        self._check_cache(figures.cache, mode, group_size)
        # The last token written need not have been read.
        read = figures.prompt_tokens + figures.generated_tokens
        assert read - 2 <= figures.cache.tokens <= read

    def _check_cache(self, cache: CacheFigures, mode: CacheMode, group_size: int) -> None:
        assert cache.mode is mode
        assert 0 < cache.used_bytes <= cache.allocated_bytes
        assert 0 < cache.fp16_used_bytes <= cache.fp16_allocated_bytes
        if mode is CacheMode.FP16:
            assert cache.layers_int4 == 0
            assert cache.ratio == pytest.approx(1.0)
        else:
            assert cache.group_size == group_size
            assert cache.layers_int4 == cache.layers_total
            bits = 4 + 16 / group_size
            assert cache.fp16_used_bytes / cache.used_bytes == pytest.approx(16 / bits, rel=0.01)
            assert cache.ratio == pytest.approx(16 / bits, rel=0.05)

    @pytest.mark.parametrize("mode", CacheMode)
    def test_the_outlook_is_what_a_reply_then_takes(
        self, shared: EngineChild, folder: Path, chat: Chat, mode: CacheMode
    ) -> None:
        loaded = shared.ask(Load(f"outlook {mode}", str(folder)))[-1]
        assert isinstance(loaded, Loaded)
        outlook = loaded.model.outlook
        assert outlook is not None
        growth = outlook.fp16 if mode is CacheMode.FP16 else outlook.int4_of(GREEDY.group_size)
        assert growth is not None
        options = with_sampling(replace(GREEDY, cache_mode=mode), max_tokens=300)
        cache = finished(chat.events(self.long_reply, options)).figures.cache
        assert growth.bytes_at(cache.tokens) == cache.allocated_bytes

    def test_live_figures_come_while_a_reply_is_written(self, chat: Chat) -> None:
        request = chat.request(self.long_reply, with_sampling(GREEDY, max_tokens=2000))
        chat.child.send(request)
        skip_to(chat.child, Token)
        progress = skip_to(chat.child, Progress)
        chat.child.send(Cancel(request.request_id))
        reply = finished(chat.child.answer(request.request_id))
        assert isinstance(progress, Progress)
        assert 0 < progress.generated_tokens <= reply.figures.generated_tokens
        assert progress.ttft_s == pytest.approx(reply.figures.ttft_s)
        assert progress.prefill_tokens_per_s > 0
        assert progress.memory.active_bytes > 0
        assert 0 < progress.cache.tokens <= reply.figures.cache.tokens
        self._check_cache(progress.cache, CacheMode.INT4, 32)

    def test_max_tokens_ends_a_reply(self, chat: Chat) -> None:
        reply = finished(chat.events(self.long_reply, with_sampling(GREEDY, max_tokens=3)))
        assert reply.figures.finish_reason == "length"
        assert reply.figures.generated_tokens == 3

    def test_greedy_is_deterministic(self, chat: Chat) -> None:
        first = finished(chat.events("Tell me a story.", reuse_cache=False))
        second = finished(chat.events("Tell me a story.", reuse_cache=False))
        assert first.token_ids == second.token_ids
        assert first.figures.prefilled_tokens == second.figures.prefilled_tokens

    def test_the_same_seed_draws_the_same_reply_and_another_another(self, chat: Chat) -> None:
        texts = [
            finished(chat.events("Tell me a story.", with_sampling(DRAWN, seed=seed), reuse_cache=False)).text
            for seed in (5, 5, 6)
        ]
        assert texts[0] == texts[1]
        assert texts[0] != texts[2]

    def test_a_seed_is_drawn_and_told(self, chat: Chat) -> None:
        first = finished(chat.events("Tell me a story.", with_sampling(DRAWN, seed=None), reuse_cache=False))
        again = finished(
            chat.events("Tell me a story.", with_sampling(DRAWN, seed=first.figures.seed), reuse_cache=False)
        )
        assert again.text == first.text

    def test_the_system_prompt_is_read(self, chat: Chat) -> None:
        plain = finished(chat.events("Hello.", reuse_cache=False)).figures.prompt_tokens
        told = replace(GREEDY, system_prompt="Speak like a pirate who has lost his parrot.")
        assert finished(chat.events("Hello.", told, reuse_cache=False)).figures.prompt_tokens > plain

    # The cache from turn to turn

    def test_the_next_turn_reads_only_what_is_new(self, chat: Chat) -> None:
        first = finished(chat.say("Tell me a story about a fox.")).figures
        assert first.reused_tokens == 0
        second = finished(chat.say("And then?")).figures
        assert second.reused_tokens >= first.prompt_tokens
        assert second.prefilled_tokens == second.prompt_tokens - second.reused_tokens

    def test_after_an_edit_the_common_beginning_is_reused(self, chat: Chat) -> None:
        first = finished(chat.say("Tell me a story about a fox.")).figures
        chat.say("And then the fox went home?")
        del chat.messages[2:]
        edited = finished(chat.say("But what about the bear?")).figures
        assert edited.reused_tokens >= first.prompt_tokens
        assert edited.prefilled_tokens > 0
        chat.messages[0] = Message(Role.USER, "Different from the first word on.")
        del chat.messages[1:]
        assert finished(chat.events()).figures.reused_tokens < first.prompt_tokens

    def test_regenerating_reuses_the_prompt(self, chat: Chat) -> None:
        first = finished(chat.events("Tell me a story about a fox."))
        again = finished(chat.events())
        assert again.figures.prefilled_tokens < first.figures.prefilled_tokens
        assert again.figures.reused_tokens > 0

    def test_without_reuse_nothing_is_kept_and_nothing_disturbed(self, chat: Chat) -> None:
        first = finished(chat.say("Tell me a story about a fox.")).figures
        chat.messages.append(Message(Role.USER, "And then?"))
        alone = finished(chat.events(reuse_cache=False)).figures
        assert alone.reused_tokens == 0
        assert finished(chat.events()).figures.reused_tokens >= first.prompt_tokens

    def test_another_mode_starts_the_cache_anew(self, chat: Chat) -> None:
        chat.say("Tell me a story about a fox.", replace(GREEDY, cache_mode=CacheMode.FP16))
        changed = finished(chat.say("And then?", replace(GREEDY, cache_mode=CacheMode.INT4))).figures
        assert changed.cache.mode is CacheMode.INT4
        self._check_cache(changed.cache, CacheMode.INT4, 32)

    def test_forget_drops_the_cache(self, chat: Chat) -> None:
        chat.say("Tell me a story about a fox.")
        chat.child.send(Forget(chat.chat_id))
        assert finished(chat.say("And then?")).figures.reused_tokens == 0

    def test_two_chats_do_not_share_a_cache(self, chat: Chat) -> None:
        chat.say("Tell me a story about a fox.")
        other = Chat(chat.child, chat.chat_id + " the other")
        assert finished(other.say("Tell me a story about a fox.")).figures.reused_tokens == 0
        assert finished(chat.say("And then?")).figures.reused_tokens > 0
        chat.child.send(Forget(other.chat_id))


class TestFakeEngine(EngineContract, OnFakeEngine):
    pass


class TestMlxEngine(EngineContract, OnMlxEngine):
    pass
