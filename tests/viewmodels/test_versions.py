from app.engine.protocol import Token
from app.store.store import MessageState
from app.viewmodels.versions import Versions, versions_of


def test_versions_know_their_neighbours():
    assert versions_of({5: (3, 5, 9)}) == {5: Versions("2 of 3", 3, 9)}
    assert versions_of({3: (3, 5)}) == {3: Versions("1 of 2", None, 5)}
    assert versions_of({}) == {}


def talk(ready, *texts: str) -> None:
    for text in texts:
        ready.session.send(text)
        ready.answer(f"{text}!")


def texts(ready) -> list[str]:
    return [m.message.text for m in ready.session.messages]


def test_any_message_can_be_edited_and_the_chat_before_comes_back(ready):
    talk(ready, "One", "Two", "Three")
    two = ready.session.messages[2].id
    assert ready.session.edit(two, "Zwei")
    assert [m.text for m in ready.asked.messages] == ["One", "One!", "Zwei"]
    ready.answer("Zwei!")
    assert texts(ready) == ["One", "One!", "Zwei", "Zwei!"]
    zwei = ready.session.messages[2].id
    assert ready.session.versions == {zwei: Versions("2 of 2", two, None)}
    assert ready.session.open_version(two)
    assert texts(ready) == ["One", "One!", "Two", "Two!", "Three", "Three!"]
    assert ready.session.versions == {two: Versions("1 of 2", None, zwei)}
    ready.session.send("Four")
    assert [m.text for m in ready.asked.messages][-3:] == ["Three", "Three!", "Four"]


def test_the_branch_that_is_open_is_open_after_a_restart(ready):
    talk(ready, "One", "Two")
    two = ready.session.messages[2].id
    ready.session.edit(two, "Zwei")
    ready.answer("Zwei!")
    ready.session.open_version(two)
    conversation = ready.session.conversation
    ready.session.new_chat()
    assert ready.session.versions == {}
    ready.session.open(conversation.id)
    assert texts(ready) == ["One", "One!", "Two", "Two!"]


def test_a_reply_written_again_is_a_version_but_none_that_never_began(ready):
    talk(ready, "One")
    first = ready.session.messages[-1].id
    ready.session.regenerate()
    ready.answer("Another!")
    assert ready.session.versions == {ready.session.messages[-1].id: Versions("2 of 2", first, None)}
    ready.session.regenerate()
    ready.engine.died.emit("The engine stopped.", "")
    assert ready.stored()[-1][2] is MessageState.FAILED
    ready.open_model()
    ready.session.regenerate()
    ready.answer("Third!")
    assert [v.text for v in ready.session.versions.values()] == ["3 of 3"]


def test_versions_stay_as_they_are_while_a_reply_is_written(ready):
    talk(ready, "One")
    one = ready.session.messages[0].id
    ready.session.edit(one, "Eins")
    ready.say(Token(ready.asked.request_id, "Ei", (1,)))
    assert ready.session.open_version(one) is False
    assert ready.session.edit(one, "Uno") is False
    ready.answer("Eins!")
    assert texts(ready) == ["Eins", "Eins!"]
    assert ready.session.edit(99, "no such message") is False
    assert ready.session.edit(one, "not in this branch") is False
