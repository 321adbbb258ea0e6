import pytest

from app.chat.attachment import Attached, Attachment, as_block, attached_in, with_attachments

NOTES = Attachment("notes.txt", "one\ntwo\n")


def test_a_file_is_a_fenced_block_under_its_name():
    assert as_block(NOTES) == "File `notes.txt`:\n\n```txt\none\ntwo\n```"


@pytest.mark.parametrize(
    "file",
    [
        NOTES,
        Attachment("README", "no ending, no last line feed"),
        Attachment("a b.tar.gz", "x"),
        Attachment("fences.md", "```python\nx = 1\n```\n\n````\nmore\n````\n"),
        Attachment("odd.c++", "int x;\n\n\n"),
        Attachment("files.md", as_block(NOTES)),
    ],
)
def test_files_are_found_again_in_a_message(file):
    text = with_attachments("What is this?", [file, NOTES])
    found = attached_in(text)
    assert found.spoken == "What is this?"
    assert [f.name for f in found.files] == [file.name, "notes.txt"]
    assert [f.text for f in found.files] == [f.text.removesuffix("\n") for f in (file, NOTES)]


def test_a_message_may_be_files_alone_or_have_none():
    assert attached_in(with_attachments(" ", [NOTES])).spoken == ""
    assert with_attachments("Hi\n", []) == "Hi"
    plain = "```\ncode\n```\n\n"
    assert attached_in(plain) == Attached(plain, ())


def test_a_name_cannot_break_out_of_its_line():
    (found,) = attached_in(with_attachments("", [Attachment("a`b\nc.txt", "x")])).files
    assert found.name == "a'b c.txt"
