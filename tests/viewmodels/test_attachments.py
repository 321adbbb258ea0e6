import pytest

from app.engine.protocol import Counted, CountTokens, Failed, Loaded
from app.viewmodels import attachments as module
from app.viewmodels.attachments import Attachments, Chip
from tests.chat_parts import MODEL


@pytest.fixture
def attachments(ready):
    return Attachments(ready.engine, ready.model)


@pytest.fixture
def refused(attachments):
    heard = []
    attachments.refused.connect(lambda message, hint: heard.append((message, hint)))
    return heard


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("A fox.\n", encoding="utf-8")
    return path


def last_count(ready) -> CountTokens:
    return ready.engine.sent_of(CountTokens)[-1]


def test_a_file_is_counted_as_it_will_be_sent(ready, attachments, notes):
    attachments.add([notes])
    assert attachments.chips == (Chip("notes.txt", "7 bytes, counting tokens…"),)
    assert last_count(ready).text == "File `notes.txt`:\n\n```txt\nA fox.\n```"
    ready.say(Counted("another", 9))
    ready.say(Counted(last_count(ready).request_id, 1000))
    assert attachments.chips == (Chip("notes.txt", "7 bytes, 1,000 tokens"),)
    assert attachments.message("Why?") == f"Why?\n\n{last_count(ready).text}"


def test_files_are_taken_away_one_by_one_or_all(attachments, notes, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("x")
    attachments.add([notes, other])
    attachments.remove(0)
    assert [chip.name for chip in attachments.chips] == ["other.txt"]
    attachments.clear()
    assert attachments.chips == ()
    assert attachments.message("Why?") == "Why?"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"\xff\xfe\x00f", "is not UTF-8 text"),
        (b"caf\xe9", "is not UTF-8 text"),
        (b"a\x00b", "is not plain text"),
        (b"x" * 200, "has 200 bytes; Nibble attaches up to 100 bytes"),
    ],
)
def test_what_cannot_be_attached_is_refused_in_words(attachments, refused, tmp_path, monkeypatch, content, says):
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    path = tmp_path / "odd.bin"
    path.write_bytes(content)
    attachments.add([path])
    ((message, hint),) = refused
    assert message.startswith(f"“odd.bin” {says}")
    assert hint
    assert attachments.chips == ()


def test_folders_and_files_that_are_gone_are_refused(attachments, refused, tmp_path, notes):
    attachments.add([tmp_path, tmp_path / "gone.txt", notes])
    assert [message for message, _ in refused] == [
        f"“{tmp_path.name}” is a folder.",
        "“gone.txt” could not be read: No such file or directory.",
    ]
    assert [chip.name for chip in attachments.chips] == ["notes.txt"]


def test_what_is_beyond_the_context_is_refused_once_it_is_counted(ready, attachments, refused, notes):
    attachments.add([notes])
    ready.say(Counted(last_count(ready).request_id, MODEL.context_limit_tokens))
    assert refused[0][0] == "“notes.txt” has 1,024 tokens; Starter can read 1,024."
    assert attachments.chips == ()


def test_a_count_that_fails_is_no_obstacle_and_made_up_for_by_the_next_model(ready, attachments, notes):
    attachments.add([notes])
    ready.say(Failed(last_count(ready).request_id, "No model is open."))
    assert attachments.chips[0].detail == "7 bytes, tokens unknown"
    ready.model.load("/other")
    ready.say(Loaded(ready.engine.sent[-1].request_id, MODEL))
    assert attachments.chips[0].detail == "7 bytes, counting tokens…"
    ready.engine.died.emit("The engine stopped.", "")
    assert attachments.chips[0].detail == "7 bytes, tokens unknown"


def test_marks_of_other_systems_are_left_out(attachments, tmp_path):
    path = tmp_path / "dos.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    attachments.add([path])
    assert attachments.message("").endswith("```txt\none\ntwo\n```")
