"""A text that grows must look, at every length, as if it had been read at once."""

import pytest
from PySide6.QtGui import QColor, QPalette, QTextDocument

from app.ui.markdown_blocks import has_definitions, settled_length
from app.ui.message_text import MessageText

TEXT = """# A heading

First paragraph with **bold**, `code` and a [link](https://example.org).

- one
- two

  still two

- three

After the list.

```python
def f():

    return "```"
```

````
```
odd
```
````

| a | b |
|--:|:--|
| 1 | 2 |

After the table 🦊.

> a quotation
>
> goes on

"Quoted" start, then an ![image](https://example.org/a.png).

1. first
2. second

   ```c
   int x;
   ```

3. third

- [ ] to do
- [x] done

Setext
======

The end
"""


def look(document: QTextDocument) -> list[tuple[object, ...]]:
    found = []
    block = document.begin()
    while block.isValid():
        form = block.blockFormat()
        styles = []
        each = block.begin()
        while not each.atEnd():
            char = each.fragment().charFormat()
            styles.append((char.fontWeight(), char.fontItalic(), char.isAnchor(), tuple(char.fontFamilies() or ())))
            each += 1
        margins = (form.topMargin(), form.bottomMargin(), form.leftMargin(), form.lineHeight(), form.marker())
        listed = block.textList().format().style() if block.textList() else None
        found.append((block.text(), *margins, form.headingLevel(), form.indent(), listed, tuple(styles)))
        block = block.next()
    return found


@pytest.fixture
def text_of(qtbot):
    def make() -> MessageText:
        made = MessageText()
        qtbot.addWidget(made)
        made.resize(500, 100)
        made.show()
        return made

    return make


@pytest.mark.parametrize("step", [1, 7, 60, 400])
def test_at_every_length_it_looks_as_if_read_at_once(text_of, step):
    growing, whole = text_of(), text_of()
    long = TEXT + "\n" + TEXT
    for length in [*range(1, len(long), step), len(long)]:
        growing.show_markdown(long[:length], is_growing=True)
        if length % (17 if step == 1 else 1) == 0 or length == len(long):
            whole.show_markdown(long[:length])
            assert look(growing.document()) == look(whole.document()), long[:length][-80:]
            assert growing.code_blocks == whole.code_blocks
            assert growing.height() == whole.height()


def test_a_text_that_is_another_than_before_is_read_anew(text_of):
    growing = text_of()
    growing.show_markdown(TEXT, is_growing=True)
    growing.show_markdown("Quite another.\n\nText", is_growing=True)
    assert growing.toPlainText() == "Quite another.\nText"
    growing.show_plain("plain")
    growing.show_markdown("again", is_growing=True)
    assert growing.toPlainText() == "again"


def test_a_selection_stays_while_the_text_grows(text_of):
    growing = text_of()
    growing.show_markdown(TEXT[:300], is_growing=True)
    cursor = growing.textCursor()
    cursor.setPosition(2)
    cursor.setPosition(9, cursor.MoveMode.KeepAnchor)
    growing.setTextCursor(cursor)
    growing.show_markdown(TEXT, is_growing=True)
    assert growing.textCursor().selectedText() == "heading"


def test_another_palette_colours_all_of_it(text_of):
    growing = text_of()
    growing.show_markdown(TEXT, is_growing=True)
    before = look(growing.document())
    palette = QPalette(growing.palette())
    palette.setColor(QPalette.ColorRole.Base, QColor("#101010"))
    growing.setPalette(palette)
    assert look(growing.document()) == before


def test_links_by_reference_are_right_once_the_text_is_complete(text_of):
    growing = text_of()
    text = "See [there].\n\nAnother paragraph.\n\nThird one.\n\n[there]: https://example.org\n"
    assert has_definitions(text)
    for length in range(1, len(text)):
        growing.show_markdown(text[:length], is_growing=True)
    growing.show_markdown(text)
    assert growing.document().begin().begin().fragment().text() == "See "
    assert "https://example.org" in growing.toHtml()


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ("", ""),
        ("One\n\n", ""),
        ("One\n\nTwo", ""),
        ("One\n\nTwo\n", "One\n\n"),
        ("- a\n\n- b\n", ""),
        ("- a\n\n  b\n", ""),
        ("- a\n\nb\n", "- a\n\n"),
        ("```\na\n\nb\n", ""),
        ("```\na\n```\n\nb\n", "```\na\n```\n\n"),
        ("````\n```\n\nb\n", ""),
        ("~~~\n\nb\n~~~\n\nc\n", "~~~\n\nb\n~~~\n\n"),
        ("a\n\n```\nb\n", "a\n\n"),
        ("``` `no fence` ```\n\nb\n", "``` `no fence` ```\n\n"),
    ],
)
def test_what_is_settled(text, settled):
    assert text[: settled_length(text)] == settled
