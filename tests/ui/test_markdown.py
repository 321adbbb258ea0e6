import pytest
from PySide6.QtGui import QColor, QGuiApplication, QPalette, QTextDocument

from app.ui.markdown import write_markdown
from app.ui.message_text import MessageText

CODE = """Before.

```python
def double(x):

    return 2 * x  # 𝄞 twice
```

```
plain
```

| a | b |
|---|--:|
| 1 | 2 |
"""


@pytest.fixture
def text(qtbot):
    made = MessageText()
    qtbot.addWidget(made)
    made.resize(400, 50)
    made.show()
    return made


def write(source: str) -> tuple[QTextDocument, list]:
    document = QTextDocument()
    return document, write_markdown(document, source, QPalette())


def colours(document: QTextDocument, number: int) -> dict[str, QColor]:
    block = document.findBlockByNumber(number)
    encoded = block.text().encode("utf-16-le")
    return {
        encoded[2 * one.start : 2 * (one.start + one.length)].decode("utf-16-le"): one.format.foreground().color()
        for one in block.layout().formats()
    }


def test_code_blocks_are_found_with_their_text(qapp):
    _, code = write(CODE)
    assert [(c.language, c.text) for c in code] == [
        ("python", "def double(x):\n\n    return 2 * x  # 𝄞 twice"),
        ("", "plain"),
    ]


def test_code_is_coloured_by_its_language(qapp):
    document, code = write(CODE)
    first, last = colours(document, code[0].first), colours(document, code[0].last)
    assert first["def"] == last["return"]
    assert first["def"] != first["double"]
    assert "# 𝄞 twice" in last
    assert colours(document, code[1].first) == {}


def test_an_unknown_language_and_an_open_fence_are_shown_plainly(qapp):
    _, code = write("```klingon\nqapla'\n```\n\ntext\n\n```python\nx = 1")
    assert [(c.language, c.text) for c in code] == [("klingon", "qapla'"), ("python", "x = 1")]


def test_raw_html_is_shown_as_it_was_written(qapp):
    document, _ = write("<b>bold</b> <script>alert(1)</script>\n\n<img src='file:///etc/passwd'>")
    assert document.toPlainText() == "<b>bold</b> <script>alert(1)</script>\n<img src='file:///etc/passwd'>"


def test_an_image_becomes_its_address(qapp):
    document, _ = write("Look: ![a cat](https://example.org/cat.png) nice ![b](b.png)")
    assert document.toPlainText() == "Look: [image: https://example.org/cat.png] nice [image: b.png]"


def test_nothing_is_loaded_and_links_are_only_announced(text, qtbot):
    text.show_markdown("[a link](https://example.org) ![x](https://example.org/x.png)")
    assert text.loadResource(2, "https://example.org/x.png") is None
    assert not text.openLinks()
    assert not text.openExternalLinks()


def test_the_view_is_as_tall_as_its_text(text):
    text.show_markdown("One line.")
    short = text.height()
    text.show_markdown("\n\n".join(["A paragraph."] * 20))
    assert text.height() > 10 * short
    assert text.verticalScrollBar().maximum() == 0


def test_the_copy_button_copies_the_code_alone(text, qtbot):
    text.show_markdown(CODE)
    button = text.findChild(object, f"{text.objectName()}_copy_code_0")
    assert button.isVisible()
    button.click()
    assert QGuiApplication.clipboard().text() == "def double(x):\n\n    return 2 * x  # 𝄞 twice"
    text.show_markdown("No code now.")
    assert not button.isVisible()


def test_a_selection_survives_growing_text(text):
    text.show_markdown("Once upon a time")
    cursor = text.textCursor()
    cursor.setPosition(5)
    cursor.setPosition(9, cursor.MoveMode.KeepAnchor)
    text.setTextCursor(cursor)
    text.show_markdown("Once upon a time there was")
    assert text.textCursor().selectedText() == "upon"


def test_code_takes_the_colours_of_another_appearance(text):
    text.show_markdown(CODE)
    number = text.code_blocks[0].first
    before = colours(text.document(), number)["def"]
    text.setPalette(QPalette(QColor("#333333"), QColor("#222222")))
    assert colours(text.document(), number)["def"].lightness() > before.lightness()
