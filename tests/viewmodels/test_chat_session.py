from dataclasses import replace

from app.chat.message import Message, Role
from app.chat.options import CacheMode, ChatOptions
from app.engine.protocol import (
    Cancel,
    Failed,
    Finished,
    Forget,
    Loaded,
    Prefill,
    Progress,
    Token,
)
from app.store.store import MessageState
from app.viewmodels.panel_state import empty_panel
from app.viewmodels.reply import ChatState, turns
from tests.chat_parts import CACHE, CANCELLED, FIGURES, MEMORY, MODEL


def test_nothing_is_sent_without_a_model(desk):
    assert desk.session.send("Hello") is False
    assert desk.engine.sent == []
    assert desk.store.conversations() == []


def test_a_message_makes_a_conversation_and_asks_for_a_reply(ready):
    ready.session.set_options(replace(ChatOptions(), cache_mode=CacheMode.FP16))
    assert ready.session.send("  Tell me a story  ")
    conversation = ready.session.conversation
    assert conversation.title == "Tell me a story"
    assert ready.store.conversations() == [conversation]
    assert ready.asked.messages == (Message(Role.USER, "Tell me a story"),)
    assert ready.asked.options.cache_mode is CacheMode.FP16
    assert ready.session.state is ChatState.PREFILL
    assert ready.session.send("And another") is False


def test_a_reply_goes_through_its_states_and_is_stored_with_its_figures(ready, qtbot):
    states, panels = [], []
    ready.session.state_changed.connect(states.append)
    ready.session.panel_changed.connect(panels.append)
    ready.session.send("Tell me a story")
    request_id = ready.asked.request_id
    ready.say(Prefill(request_id, 512, 2048, 1200))
    assert ready.session.activity == "Reading 512 of 2,048 tokens, 1,200 already in the cache"
    ready.say(Prefill(request_id, 512, 2048, 1200, 1200))
    assert ready.session.activity == "Reading 512 of 2,048 tokens, 1,200 continued from disk"
    ready.say(Token(request_id, "Once", (1,)))
    ready.say(Progress(request_id, CACHE, MEMORY, 1, 0.2, 1500.0, 41.2))
    assert ready.session.activity == "Writing, 41.2 tokens/s"
    assert panels[-1].value("cache.ratio") == "3.56x"
    with qtbot.waitSignal(ready.session.reply_finished) as finished:
        ready.say(Finished(request_id, "Once upon", (1, 2, 0), FIGURES))
    assert finished.args == ["Tell me a story", FIGURES]
    assert states == [ChatState.PREFILL, ChatState.DECODING, ChatState.IDLE]
    assert ready.stored() == [
        ("user", "Tell me a story", MessageState.COMPLETE),
        ("assistant", "Once upon", MessageState.COMPLETE),
    ]
    assert ready.session.messages[-1].figures == FIGURES


def test_growing_text_is_shown_in_steps_and_stored_with_each(ready, qtbot):
    ready.session.send("Tell me a story")
    shown = []
    ready.session.message_changed.connect(lambda stored: shown.append(stored.message.text))
    for word in ("Once", " upon", " a", " time"):
        ready.say(Token(ready.asked.request_id, word, (1,)))
    assert shown == ["Once"]
    qtbot.waitUntil(lambda: shown[-1] == "Once upon a time", timeout=1000)
    assert len(shown) == 2
    assert ready.stored()[-1] == ("assistant", "Once upon a time", MessageState.STREAMING)


def test_stop_cancels_once_and_keeps_what_was_written(ready):
    ready.session.send("Tell me a story")
    ready.say(Token(ready.asked.request_id, "Once", (1,)))
    ready.session.stop()
    ready.session.stop()
    assert ready.engine.sent_of(Cancel) == [Cancel(ready.asked.request_id)]
    assert ready.session.state is ChatState.STOPPING
    ready.say(Token(ready.asked.request_id, " upon", (2,)))
    assert ready.session.state is ChatState.STOPPING
    ready.say(Finished(ready.asked.request_id, "Once upon", (1, 2), CANCELLED))
    assert ready.session.state is ChatState.IDLE
    assert ready.stored()[-1] == ("assistant", "Once upon", MessageState.CANCELLED)


def test_a_failed_reply_keeps_its_text_and_the_chat_goes_on(ready):
    ready.session.send("Tell me a story")
    ready.say(Token(ready.asked.request_id, "Once", (1,)))
    ready.say(Failed(ready.asked.request_id, "Out of memory.", "Use a shorter chat.", "Traceback"))
    assert ready.failures == [("Out of memory.", "Use a shorter chat.", "Traceback")]
    assert ready.stored()[-1] == ("assistant", "Once", MessageState.FAILED)
    assert ready.session.state is ChatState.IDLE


def test_the_engines_death_keeps_the_text_and_a_restart_mends_it(ready):
    ready.session.send("Tell me a story")
    ready.say(Token(ready.asked.request_id, "Once", (1,)))
    ready.engine.died.emit("The engine stopped: killed.", "last words")
    assert ready.session.state is ChatState.FAILED
    assert ready.failures[0][0] == "The engine stopped: killed."
    assert ready.failures[0][2] == "last words"
    assert ready.stored()[-1] == ("assistant", "Once", MessageState.FAILED)
    assert ready.session.send("Hello?") is False
    ready.model.restart()
    assert ready.session.state is ChatState.LOADING
    ready.say(Loaded(ready.engine.sent[-1].request_id, MODEL))
    assert ready.session.send("Go on")
    assert [m.text for m in ready.asked.messages] == ["Tell me a story", "Once", "Go on"]


def test_regenerate_answers_the_last_message_again(ready):
    ready.session.send("Tell me a story")
    ready.answer("First.")
    assert ready.session.regenerate()
    assert [m.text for m in ready.asked.messages] == ["Tell me a story"]
    ready.answer("Second.")
    assert [text for _, text, _ in ready.stored()] == ["Tell me a story", "Second."]


def test_an_edited_message_is_asked_without_what_followed_it(ready):
    for text in ("One", "Two"):
        ready.session.send(text)
        ready.answer(f"{text}!")
    assert ready.session.edit(ready.session.last_user_message.id, "Three")
    assert [m.text for m in ready.asked.messages] == ["One", "One!", "Three"]
    ready.answer("Three!")
    assert [text for _, text, _ in ready.stored()] == ["One", "One!", "Three", "Three!"]


def test_a_first_message_said_anew_gives_the_chat_its_title_anew(ready):
    ready.session.send("Tell me a stroy")
    ready.answer()
    ready.session.edit(ready.session.last_user_message.id, "Tell me a story")
    assert ready.session.title == "Tell me a story"
    ready.answer()
    ready.session.rename(ready.session.conversation.id, "Mine")
    ready.session.edit(ready.session.last_user_message.id, "Another")
    assert ready.session.title == "Mine"


def test_reading_shows_the_figures_as_they_come(ready):
    ready.session.send("Tell me a story")
    ready.answer()
    ready.session.set_options(replace(ready.session.options, cache_mode=CacheMode.FP16))
    ready.session.send("Again")
    assert ready.session.panel == empty_panel(MODEL, ready.session.options)
    request_id = ready.asked.request_id
    ready.say(Prefill(request_id, 512, 2048, 0))
    assert ready.session.panel.value("cache.allocated") == "–"
    cache = replace(CACHE, mode=CacheMode.FP16, tokens=512, layers_int4=0)
    ready.say(Progress(request_id, cache, MEMORY, 0, 0.0, 1500.0, 0.0))
    panel = ready.session.panel
    assert panel.status == "Reading 512 of 2,048 new tokens"
    assert panel.context_tokens == 512
    assert (panel.value("speed.prefill"), panel.value("speed.ttft")) == ("1,500 tokens/s", "–")
    ready.say(Failed(request_id, "Out of memory."))
    assert ready.session.panel.status == ""


def test_the_plot_shows_recent_speeds_not_the_average(ready):
    ready.session.send("Tell me a story")
    ready.say(Token(ready.asked.request_id, "Once", (1,)))
    for generated, average in ((1, 0.0), (11, 10.0), (31, 15.0), (31, 15.0), (41, 10.0)):
        ready.say(Progress(ready.asked.request_id, CACHE, MEMORY, generated, 0.2, 1500.0, average))
    assert ready.session.panel.speeds == (10.0, 20.0, 5.0)
    assert ready.session.panel.value("speed.decode") == "10.0 tokens/s"


def test_a_reply_goes_on_while_another_conversation_is_open(ready):
    ready.session.send("First chat")
    first = ready.session.conversation
    ready.say(Token(ready.asked.request_id, "Once", (1,)))
    ready.session.new_chat()
    assert ready.session.state is ChatState.BUSY
    assert ready.session.activity == "Nibble is still writing in “First chat”"
    assert ready.session.send("Second chat") is False
    changed = []
    ready.session.message_changed.connect(changed.append)
    ready.say(Token(ready.asked.request_id, " upon", (2,)))
    ready.session.open(first.id)
    assert ready.session.state is ChatState.DECODING
    assert ready.session.messages[-1].message.text == "Once upon"
    ready.session.new_chat()
    ready.answer("Once upon a time")
    assert changed == []
    assert ready.session.state is ChatState.IDLE
    assert ready.store.messages(first.id)[-1].message.text == "Once upon a time"


def test_deleting_a_conversation_stops_its_reply_and_drops_its_cache(ready):
    ready.session.send("Tell me a story")
    asked = ready.asked
    ready.session.delete(ready.session.conversation.id)
    assert ready.engine.sent_of(Cancel) == [Cancel(asked.request_id)]
    assert ready.engine.sent_of(Forget) == [Forget(asked.chat_id)]
    assert ready.session.conversation is None
    assert ready.session.state is ChatState.BUSY
    ready.say(Token(asked.request_id, "Once", (1,)))
    ready.say(Finished(asked.request_id, "Once", (1,), CANCELLED))
    assert ready.session.state is ChatState.IDLE
    assert ready.store.conversations() == []


def test_options_belong_to_a_chat_and_new_chats_take_the_settings(ready):
    ready.session.send("Tell me a story")
    ready.answer()
    first = ready.session.conversation.id
    ready.session.set_options(replace(ready.session.options, cache_mode=CacheMode.FP16, group_size=64))
    ready.session.new_chat()
    assert ready.session.options == ChatOptions()
    ready.settings.replace(replace(ready.settings.settings, chat=replace(ChatOptions(), system_prompt="Be brief.")))
    assert ready.session.options.system_prompt == "Be brief."
    ready.session.open(first)
    assert ready.session.options.cache_mode is CacheMode.FP16
    assert ready.session.options.group_size == 64


def test_the_events_of_other_requests_are_not_ours(ready):
    ready.session.send("Tell me a story")
    ready.say(Token("compare", "Not for this chat", (1,)))
    ready.say(Finished("compare", "Not for this chat", (1,), FIGURES))
    assert ready.session.state is ChatState.PREFILL
    assert ready.session.messages[-1].message.text == ""


def test_an_opened_conversation_shows_the_figures_of_its_last_reply(ready):
    ready.session.send("Tell me a story")
    ready.answer()
    first = ready.session.conversation.id
    ready.session.new_chat()
    assert ready.session.panel.headline == "Nothing cached yet"
    ready.session.open(first)
    assert ready.session.panel.value("cache.ratio") == "3.56x"


def test_closing_stores_what_was_written(ready):
    ready.session.send("Tell me a story")
    ready.say(Token(ready.asked.request_id, "Once", (1,)))
    ready.session.close()
    assert ready.stored()[-1] == ("assistant", "Once", MessageState.CANCELLED)


def test_a_title_is_one_line_and_never_empty(ready):
    ready.session.send("Tell me a story")
    ready.session.rename(ready.session.conversation.id, "  \n ")
    assert ready.session.title == "Tell me a story"
    ready.session.rename(ready.session.conversation.id, " A\nfox ")
    assert ready.session.title == "A fox"


def test_turns_alternate_and_none_is_empty():
    user, model = Role.USER, Role.ASSISTANT
    said = [Message(user, "One"), Message(model, " "), Message(user, "Two"), Message(model, "2"), Message(user, "3")]
    assert turns(said) == (Message(user, "One\n\nTwo"), Message(model, "2"), Message(user, "3"))
