from dataclasses import replace

from app.chat.options import CacheMode
from app.engine.protocol import Cancel, Failed, Load, Loaded, Loading, Token
from app.errors import NibbleError
from app.settings.file import load_settings
from app.store.store import MessageState
from app.viewmodels.reply import ChatState
from tests.chat_parts import MODEL


def test_the_starter_is_opened_at_start_and_remembered_as_such(desk):
    assert desk.session.state is ChatState.NO_MODEL
    desk.model.start()
    assert desk.engine.starts == 1
    assert desk.engine.sent == [Load("r1", "/starter")]
    assert desk.session.state is ChatState.LOADING
    desk.say(Loading("r1", "Reading the weights", 0.3))
    assert desk.session.activity == "Opening Starter: Reading the weights (30%)"
    desk.say(Loaded("r1", MODEL))
    assert desk.session.state is ChatState.IDLE
    assert desk.session.activity == ""
    assert desk.settings.settings.recent_model_paths == ()


def test_an_opened_folder_is_remembered_and_a_failed_one_is_not(ready):
    ready.session.load_model("/models/good")
    ready.say(Loaded(ready.engine.sent[-1].request_id, MODEL))
    ready.session.load_model("/models/bad")
    ready.say(Failed(ready.engine.sent[-1].request_id, "No config.json.", "Choose another folder."))
    assert ready.session.state is ChatState.IDLE, "the engine keeps the model that was open"
    assert ready.model.path == "/models/good"
    assert ready.model.title == "good"
    assert ready.model.facts == MODEL
    assert ready.failures == [("No config.json.", "Choose another folder.", "")]
    kept = load_settings(ready.folder / "settings.json").settings
    assert kept.model_path == "/models/good"
    assert kept.recent_model_paths == ("/models/good",)


def test_opening_a_model_can_be_stopped_in_silence(ready):
    ready.session.load_model("/models/huge")
    request_id = ready.engine.sent[-1].request_id
    ready.session.stop()
    ready.session.stop()
    assert ready.engine.sent_of(Cancel) == [Cancel(request_id)]
    ready.say(Loading(request_id, "Reading weights", -1.0))
    assert ready.session.activity == "Opening huge: stopping"
    ready.say(Failed(request_id, "Opening the model was stopped."))
    assert ready.session.state is ChatState.IDLE
    assert ready.model.is_starter
    assert ready.failures == []


def test_a_model_that_ends_the_engine_is_not_tried_again_by_a_restart(ready):
    ready.session.load_model("/models/huge")
    ready.engine.died.emit("The engine stopped: killed.", "")
    ready.model.restart()
    assert ready.engine.sent[-1].path == "/starter"


def test_a_model_opens_even_where_it_cannot_be_remembered(desk, monkeypatch):
    def refuse(path: str) -> None:
        raise NibbleError("disk full")

    monkeypatch.setattr(desk.settings, "remember_model", refuse)
    desk.open_model()
    assert desk.session.state is ChatState.IDLE
    assert desk.failures == [("disk full", "", "")]


def test_a_model_that_does_not_fit_is_offered_and_opened_anyway(ready):
    refusals = []
    ready.model.refused.connect(lambda *refusal: refusals.append(refusal))
    chat = replace(ready.settings.settings.chat, cache_mode=CacheMode.FP16, group_size=64)
    ready.settings.replace(replace(ready.settings.settings, chat=chat))
    ready.session.load_model("/models/huge")
    asked = ready.engine.sent[-1]
    assert (asked.anyway, asked.cache_mode, asked.group_size) == (False, CacheMode.FP16, 64), "as new chats start"
    ready.say(Failed(asked.request_id, "huge does not fit.", "Choose a smaller model.", can_override=True))
    assert refusals == [("/models/huge", "huge does not fit.", "Choose a smaller model.")]
    assert ready.failures == []
    assert ready.model.is_starter
    assert ready.session.state is ChatState.IDLE
    ready.model.load("/models/huge", anyway=True)
    assert ready.engine.sent[-1].anyway
    ready.say(Loaded(ready.engine.sent[-1].request_id, MODEL))
    assert ready.model.path == "/models/huge"


def test_an_engine_that_does_not_answer_is_ended_and_started_again(ready, qtbot):
    ready.session.send("Tell me a story")
    ready.say(Token(ready.asked.request_id, "Once", (1,)))
    ready.session.stop()
    ready.engine.is_running = True
    ready.model.restart()
    assert ready.failures[-1][0] == "The engine did not answer and was ended."
    assert ready.stored()[-1] == ("assistant", "Once", MessageState.FAILED)
    assert ready.session.state is ChatState.FAILED
    qtbot.waitUntil(lambda: ready.session.state is ChatState.LOADING)
    assert ready.engine.sent[-1].path == "/starter"
