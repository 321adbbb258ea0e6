"""Whatever a model writes: the window shows it in a moment, opens nothing for it and runs nothing of it."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments.lexers import find_lexer_class_by_name
from PySide6.QtCore import QUrl
from PySide6.QtGui import QPalette, Qt, QTextDocument
from PySide6.QtWidgets import QDialog

from app.chat.figures import ModelFacts
from app.chat.message import Message, Role, title_from
from app.store.store import MessageState, StoredMessage
from app.ui import commands
from app.ui.markdown import LANGUAGES, MOST_COLOURED_CHARACTERS, MOST_COLOURED_LINE, write_markdown
from app.ui.message_text import MessageText
from app.ui.message_view import MessageView
from app.ui.reply_column import ReplyColumn
from app.ui.shown_text import (
    LONGEST_WORD,
    MOST_CELLS,
    MOST_CHARACTERS,
    MOST_MARKDOWN_CHARACTERS,
    MOST_MARKDOWN_LINES,
    shown_plainly,
    visible,
)
from app.viewmodels.plain_tooltip import plain_tooltip
from tests.faults.fuzzing import fuzz, soon


class WatchedText(MessageText):
    """Notes what a document asks for."""

    def __init__(self):
        self.asked = []
        super().__init__()

    def loadResource(self, kind, name):  # noqa: N802
        self.asked.append(name)
        return super().loadResource(kind, name)


@pytest.fixture
def text(qtbot):
    made = WatchedText()
    qtbot.addWidget(made)
    made.resize(500, 50)
    made.show()
    qtbot.waitExposed(made)
    yield made
    assert made.asked == []


PIECES = st.sampled_from(
    [
        *("a", "word ", " ", "\n", "\n\n", "  ", "    ", "\t", "*", "**", "_", "~~", "`", "```", "```python\n", "~~~"),
        *("# ", "###### ", "> ", ">> ", "- ", "* ", "1. ", "999999999. ", "- [ ] ", "- [x] ", "---\n", "===\n"),
        *("|", "|-|\n", "| a | b |\n|--:|:-|\n", "[", "](", ")", "![", "![a](b.png)", "![](/dev/zero)", "<", ">", "&"),
        *("![x](https://example.org/x.png)", "![x](file:///etc/passwd)", "![x](data:image/png;base64,iVBORw0KGgo=)"),
        *("<img src='x.png'>", "<script>alert(1)</script>", "<!--", "<a href='file:///'>", "&#0;", "&#x202e;", "&amp;"),
        *("[a](javascript:alert(1))", "[a](file:///bin/sh)", "https://example.org", "a@b.org", "[a]: /b\n", "[a]"),
        *("\0", "\x1b[31m", "\r", "\r\n", "\x0b", "\x0c", "\u2028", "\u2029", "\ufdd0", "\ufdd1", "\ufffc", "\ufeff"),
        *(
            "\u202e",
            "\u2066",
            "\u0301",
            "\ud83d",
            "\udc00",
            "🦊",
            "狐",
            "\U000e0001",
            "\\",
            "$$",
            "<think>",
            "</think>",
        ),
    ]
)
MARKDOWN = st.lists(st.one_of(PIECES, PIECES, st.text(max_size=5)), max_size=40).map("".join)


@fuzz(120)
@given(source=MARKDOWN, cuts=st.lists(st.integers(0, 200), max_size=3))
def test_any_markdown_is_shown_at_once_and_as_it_grows(text, source, cuts):
    with soon():
        for cut in sorted(cuts):
            text.show_markdown(source[:cut], is_growing=True)
        text.show_markdown(source, is_growing=True)
        text.show_markdown(source)
        text.grab()
    assert text.asked == []
    for code in text.code_blocks:
        assert 0 <= code.first <= code.last < text.document().blockCount()


@fuzz(50)
@given(source=MARKDOWN, role=st.sampled_from(Role), state=st.sampled_from(MessageState))
def test_any_message_is_shown(qapp, source, role, state):
    stored = StoredMessage(1, Message(role, source), state, None)
    with soon():
        view = MessageView(stored)
        view.resize(500, view.sizeHint().height())
        view.grab()
        view.show_message(stored)
    view.deleteLater()


def table(columns: int, rows: int) -> str:
    return "\n".join(["|" + "a|" * columns, "|" + "-|" * columns, *["|" + "b|" * columns] * rows])


WORST = {
    "one line of 1 MB": "x" * 1_000_000,
    "one line of 1 MB, in words": "word " * 200_000,
    "one line just short enough": ("x" * (LONGEST_WORD - 1) + " ") * (MOST_MARKDOWN_CHARACTERS // LONGEST_WORD - 1),
    "lines of 1 MB": "word\n" * 200_000,
    "as many lines as are read": "word\n\n" * (MOST_MARKDOWN_LINES // 2 - 1),
    "lists": "- a\n" * (MOST_MARKDOWN_LINES - 1),
    "headings": "# a\n" * (MOST_MARKDOWN_LINES - 1),
    "rules": "---\n" * (MOST_MARKDOWN_LINES - 1),
    "quotations in each other": ">" * 20_000 + " x",
    "quotations just few enough": "\n\n".join([">" * 39 + " x"] * 200),
    "lists in each other": "\n".join("  " * i + "- a" for i in range(400)),
    "emphasis in each other": "**a *b " * 20_000,
    "stars": "*" * 50_000,
    "underscores": "_a" * 50_000,
    "brackets": "[" * 100_000,
    "links in each other": "[a](" * 40_000,
    "images": "![a](b) " * 10_000,
    "links": "[a](http://b) " * 8_000,
    "link definitions": "".join(f"[a{i}]: http://b\n" for i in range(2_000)) + " [a1] [a1999]" * 4_000,
    "addresses": "http://a.b/ " * 9_990,
    "backticks": " ".join("`" * i + "a" for i in range(1, 480)),
    "entities": "&amp; " * 19_990,
    "html": "<div> " * 19_990,
    "a table of 10,000 cells": table(100, 100),
    "a table of one row": table(10_000, 1),
    "a table just wide enough": table(MOST_CELLS // 3 - 10, 1),
    "a table just tall enough": table(1, MOST_CELLS // 3),
    "strokes": "|" * 50_000 + "\n" + "|-" * 50_000,
    "a fence without an end": "```python\n" + "x = 1\n" * 3_300,
    "a fence with one line of 1 MB": "```python\n" + "x" * 1_000_000 + "\n```",
    "code that is all brackets": "```python\n" + "( " * 9_990 + "\n```",
    "code for a slow lexer": "```perl\n" + "q{ " * 6_660 + "\n```",
    "code that is all indentation": "```python\n" + "\n " * 9_990 + "\n```",
    "code that is all escapes": "```javascript\n" + '"\\' * 9_990 + "\n```",
    "fences": "```\na\n```\n" * (MOST_MARKDOWN_LINES // 3 - 2),
    "control characters": "".join(map(chr, range(1, 32))) * 5_000,
    "overrides": "\u202e\u2066\u2067" * 30_000,
    "accents on one letter": "a" + "\u0301" * 100_000,
}


@pytest.mark.parametrize("name", WORST)
def test_the_worst_texts_take_no_time(text, qapp, name):
    with soon():
        text.show_markdown(WORST[name])
        qapp.processEvents()


@pytest.mark.parametrize(
    "name", ["one line of 1 MB", "one line of 1 MB, in words", "lines of 1 MB", "accents on one letter"]
)
def test_a_plain_text_takes_no_time_either(text, qapp, name):
    with soon():
        text.show_plain(WORST[name])
        qapp.processEvents()


@pytest.mark.parametrize("name", ["one line of 1 MB", "lists in each other", "strokes", "a fence without an end"])
def test_the_worst_texts_grow_no_slower(text, qapp, name):
    source = WORST[name]
    for share in (0.25, 0.5, 0.75, 1.0):
        with soon():
            text.show_markdown(source[: round(share * len(source))], is_growing=True)


@pytest.mark.parametrize("name", ["one line of 1 MB", "one line of 1 MB, in words", "overrides"])
def test_a_comparison_shows_them_as_well(qtbot, qapp, name):
    column = ReplyColumn("int4")
    qtbot.addWidget(column)
    column.resize(400, 300)
    column.show()
    with soon():
        column.set_text(WORST[name])
        qapp.processEvents()


SAID = {
    "one word": "x" * 1_000_000,
    "files": "File `a`:\n\n```\n" * 60_000,
    "files with longer fences": "".join(f"File `a`:\n\n{'`' * (3 + i)}\n" for i in range(1000)),
    "thoughts": "<think>" * 100_000,
    "ends of thoughts": "\n</think>" * 100_000,
    "blanks": (" " * 1000 + "\n") * 1000,
    "beginnings of definitions": "[a\n" * 300_000,
}


@pytest.mark.parametrize("role", [Role.USER, Role.ASSISTANT])
@pytest.mark.parametrize("name", SAID)
def test_the_worst_messages_take_no_time(qtbot, qapp, name, role):
    with soon():
        title_from(SAID[name])
        view = MessageView(StoredMessage(1, Message(role, SAID[name]), MessageState.COMPLETE, None))
        qtbot.addWidget(view)
        view.resize(600, 400)
        view.show()
        qapp.processEvents()


def test_what_is_not_shown_is_counted_and_what_is_copied_is_whole(qtbot, qapp):
    long = "word " * 100_000
    assert shown_plainly(long).endswith(f"[… {len(long) - MOST_CHARACTERS:,} more characters, kept but not shown]")
    view = MessageView(StoredMessage(1, Message(Role.ASSISTANT, long), MessageState.COMPLETE, None))
    qtbot.addWidget(view)
    view.findChild(object, "copy_message_1").click()
    assert qapp.clipboard().text() == long


def test_no_image_is_opened_not_even_one_that_hangs(text, tmp_path, qapp):
    os.mkfifo(tmp_path / "pipe")  # who opens it to read waits for ever
    address = tmp_path / "pipe"
    for source in (
        f"![x]({address})",
        f"before\n\n- ![x](file://{address})\n\n| ![x](<{address}>) |\n|-|\n\n[![x]({address})](a)",
    ):
        text.show_markdown(source)
        qapp.processEvents()
        for length in range(0, len(source) + 1, 7):
            text.show_markdown(source[:length], is_growing=True)
        qapp.processEvents()
        text.show_markdown(source, is_growing=True)
        assert "[image: " in text.toPlainText()
    assert text.asked == []


def test_what_turns_text_round_or_cannot_be_seen_is_made_visible(text):
    text.show_markdown("`rm \u202efdp.exe`\0\x1b")
    assert text.toPlainText() == "rm \ufffdfdp.exe\ufffd\ufffd"
    assert visible("שלום \u200f tab\t") == "שלום \u200f tab\t", "languages written from right to left need no override"


REPEATED = st.one_of(
    st.sampled_from(
        ["(", "[", "{", '"', "'", "\\", "<", "<!--", "/*", "#", "$", "${", "`", "q{", "%", "=", "a:", "a.", "a("]
    ),
    st.sampled_from(
        [" ", "\t", "\n ", "\n\t", '"\\', "{{", "{%", "--", "a ", "<a ", "a=", "é", "0x", "''", "@", ":", "~"]
    ),
    st.sampled_from(["( ", "[ ", "{ ", "' ", "= ", "< ", "# ", "$ ", ": ", "\\ ", "` ", "a = ", "a: ", "\\\n"]),
    st.text(min_size=1, max_size=4),
)


@fuzz(10)
@given(language=st.sampled_from(sorted(LANGUAGES)), parts=st.lists(REPEATED, min_size=1, max_size=2))
def test_no_lexer_takes_long(qapp, language, parts):
    line = "".join(parts) * (MOST_COLOURED_LINE // len("".join(parts)))
    code = "\n".join([line] * (MOST_COLOURED_CHARACTERS // (len(line) + 1)))
    with soon():
        write_markdown(QTextDocument(), f"~~~~~~~{language}\n{visible(code)}\n~~~~~~~", QPalette())


def test_every_language_has_a_lexer():
    for language in LANGUAGES:
        find_lexer_class_by_name(language)


REFUSED = [
    *("file:///etc/passwd", "FILE:///etc/passwd", "/etc/passwd", "etc/passwd", "//host/share", "javascript:alert(1)"),
    *("data:text/html,x", "vbscript:x", "ssh://host", "smb://host/share", "x-apple.systempreferences:", "nibble:x", ""),
    *("qrc:/x", "about:blank", "view-source:http://a", "jar:http://a!/", "tel:1", "ftp://a/b", "#top", "\0http://a"),
]


def test_only_web_and_mail_addresses_are_followed_and_only_when_confirmed(driver, monkeypatch):
    opened = []
    monkeypatch.setattr(commands, "_open_url", opened.append)
    driver.chat("Hello")
    activate = driver.window.transcript.views[-1].text.anchorClicked.emit
    for address in REFUSED:
        activate(QUrl(address))
        assert driver.window.findChild(QDialog, "link_dialog") is None, address
    assert (
        "not opened"
        in driver.window.notice.accessibleName() + driver.window.notice.findChild(object, "notice_message").text()
    )
    for address in ("https://example.org/a?b", "HTTP://EXAMPLE.ORG", "mailto:a@example.org"):
        activate(QUrl(address))
        dialog = driver.find("link_dialog", QDialog)
        assert dialog.informativeText() == QUrl(address).toString(QUrl.ComponentFormattingOption.FullyEncoded)
        assert not opened
        dialog.findChild(object, "link_dialog_cancel").click()
        driver.until(lambda: driver.window.findChild(QDialog, "link_dialog") is None)
    assert opened == []
    activate(QUrl("https://example.org"))
    driver.find("link_dialog_yes").click()
    assert opened == [QUrl("https://example.org")]


HOSTILE = "<img src='{}'><b>x</b> & \n<script>"


def test_no_label_and_no_tooltip_reads_html(driver, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    name = HOSTILE.format(tmp_path / "pipe")
    facts = ModelFacts(name, name, name, 1, 1, 1, 100, "float16", 1, (), remarks=(name,))
    driver.program.models.model._facts = facts
    driver.program.models.model.changed.emit()
    driver.window.notice.show_notice(name, name)
    driver.chat(name)
    driver.session.rename(driver.session.conversation.id, name)
    tooltips = [widget.toolTip() for widget in driver.window.findChildren(object) if hasattr(widget, "toolTip")]
    rows = driver.program.models.conversations
    tooltips += [rows.data(rows.index(i, 0), Qt.ItemDataRole.ToolTipRole) or "" for i in range(rows.rowCount())]
    hostile = [tooltip for tooltip in tooltips if "img src" in tooltip]
    assert len(hostile) >= 2
    for tooltip in hostile:
        assert "<img" not in tooltip
        shown = QTextDocument()
        shown.setHtml(tooltip)
        assert "<img src=" in shown.toPlainText()


@fuzz(50)
@given(MARKDOWN)
def test_a_tooltip_shows_what_is_written(qapp, source):
    tooltip = plain_tooltip(source)
    if Qt.mightBeRichText(tooltip):
        assert tooltip.startswith("<span>")
        assert tooltip.replace("<br>", "").count("<") == 2
    else:
        assert tooltip == source
