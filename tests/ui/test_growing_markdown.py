import pytest
from PySide6.QtGui import QColor, QPalette, QTextDocument, QTextTable

from app.engine.fake_answer import long_answer
from app.ui.growing_markdown import FREEZE_AFTER, GrowingMarkdown, last_break
from app.ui.markdown import write_markdown
from app.ui.message_text import MessageText


@pytest.fixture
def document(qapp):
    return QTextDocument()


def look(document: QTextDocument) -> list[tuple]:
    """What a reader sees, block by block."""
    seen = []
    block = document.begin()
    while block.isValid():
        form, layout = block.blockFormat(), block.layout().formats()
        words = []
        each = block.begin()
        while not each.atEnd():
            font = each.fragment().charFormat()
            words.append((each.fragment().text(), font.fontWeight(), font.fontItalic(), font.fontFamilies()))
            each += 1
        margins = (form.topMargin(), form.bottomMargin(), form.leftMargin(), form.headingLevel(), form.indent())
        listed = block.textList()
        item = (listed.itemText(block), listed.format().indent()) if listed else None
        seen.append((words, margins, item, [(f.start, f.length, f.format.foreground().color().name()) for f in layout]))
        block = block.next()
    return seen


def tables(document: QTextDocument) -> list[tuple[int, int]]:
    frames = document.rootFrame().childFrames()
    return [(f.rows(), f.columns()) for f in frames if isinstance(f, QTextTable)]


@pytest.mark.parametrize("step", [7, 97, 1000])
def test_a_text_that_grew_looks_like_one_written_at_once(document, step):
    text = long_answer(6000 if step > 50 else 2500)
    growing = GrowingMarkdown(document)
    for end in range(step, len(text), step):
        growing.write(text[:end], QPalette())
    code = growing.write(text, QPalette())
    whole = QTextDocument()
    assert code == write_markdown(whole, text, QPalette())
    assert document.toPlainText() == whole.toPlainText()
    assert tables(document) == tables(whole)
    assert look(document) == look(whole)


def test_what_is_frozen_is_left_alone(document, monkeypatch):
    read = []
    monkeypatch.setattr(
        "app.ui.growing_markdown.write_markdown",
        lambda doc, text, palette, **more: read.append(len(text)) or write_markdown(doc, text, palette, **more),
    )
    text = long_answer(30_000)
    growing = GrowingMarkdown(document)
    for end in range(500, len(text), 500):
        read.clear()
        growing.write(text[:end], QPalette())
        assert sum(read) < 3 * FREEZE_AFTER


def test_another_text_is_written_anew(document):
    growing = GrowingMarkdown(document)
    growing.write(long_answer(4000), QPalette())
    growing.write("# Another", QPalette())
    assert document.toPlainText() == "Another"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("One.\n\nTwo.\n\nThree", "Three"),
        ("One.\n\n# Two", "# Two"),
        ("One.\n\n- item\n\n  more", None),
        ("One.\n\n1. item\n\n2. item", None),
        ("One.\n\n| a |", None),
        ("One.\n\n```\nx\n\ny", None),
        ("One.\n\nTwo\n\n```\nx\n\ny\n", "Two\n\n```\nx\n\ny\n"),
        ("```\nx\n\ny\n```\n\nTwo", "Two"),
        ("Größe.\n\nÄpfel", "Äpfel"),
        ("One line", None),
    ],
)
def test_a_text_is_cut_where_nothing_goes_on(text, rest):
    cut = last_break(text)
    assert (text[cut:] if cut else None) == rest


@pytest.mark.parametrize(
    ("end", "is_spared"), [("The end.", True), ("See [here].\n\n[here]: https://example.org", False)]
)
def test_a_finished_text_is_read_as_a_whole_only_where_that_can_matter(qtbot, end, is_spared):
    text = MessageText()
    qtbot.addWidget(text)
    grown = long_answer(3000)
    for length in range(500, len(grown), 500):
        text.show_markdown(grown[:length], is_growing=True)
    first = text.document().firstBlock()
    first.setUserState(7)
    text.show_markdown(grown + end)
    assert (text.document().firstBlock().userState() == 7) is is_spared
    whole = QTextDocument()
    write_markdown(whole, grown + end, text.palette())
    assert text.toPlainText() == whole.toPlainText()


def test_other_colours_reach_what_is_frozen(qtbot):
    text = MessageText()
    qtbot.addWidget(text)
    for length in range(500, 3000, 500):
        text.show_markdown(long_answer(3000)[:length], is_growing=True)
    dark = QPalette(QColor("#303030"))
    dark.setColor(QPalette.ColorRole.Text, QColor("#eeeeee"))
    before = look(text.document())
    text.setPalette(dark)
    assert look(text.document()) != before
