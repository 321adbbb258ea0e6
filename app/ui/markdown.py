"""Markdown into a styled QTextDocument: code in colours, tables with lines, never raw HTML, never a fetched image."""

import functools
import time
from dataclasses import dataclass
from typing import Any

from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Literal, Name, Number, Operator, String, Token
from pygments.util import ClassNotFound
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFont,
    QPalette,
    QTextBlock,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextFormat,
    QTextFragment,
    QTextFrameFormat,
    QTextLayout,
    QTextTable,
)

from app.ui.theme import accent, code_font, hairline, is_dark, mix

FEATURES = QTextDocument.MarkdownFeature(
    QTextDocument.MarkdownFeature.MarkdownDialectGitHub.value | QTextDocument.MarkdownFeature.MarkdownNoHTML.value
)
CODE_PADDING = 10
_LANGUAGES = """
asm bash c c# c++ clojure cmake console cpp cs csharp css dart diff docker dockerfile elixir erlang f# fortran fsharp go
graphql haskell hs html ini java javascript js json jsx julia kotlin latex lisp lua make makefile markdown md
nasm nix objc objective-c ocaml perl php pl powershell protobuf ps1 py python python3 r rb ruby rs rust scala scss sh
shell sql swift tex toml ts tsx typescript vim xml yaml yml zig zsh
"""
LANGUAGES = frozenset(_LANGUAGES.split())
"""Those that are coloured. Of Pygments' other hundreds some take minutes for a line; these have been tried."""
MOST_COLOURED_CHARACTERS = 20_000
MOST_COLOURED_LINE = 1_000
MOST_COLOURING_S = 0.25
"""Longer code stays in one colour, and so does what a lexer has not come to in time: some take minutes."""
_STAND_IN = "x"
LINE_HEIGHT_PERCENT = 122.0
_HUES = {
    Comment: None,
    Keyword: 0.83,
    String: 0.36,
    Number: 0.08,
    Literal: 0.08,
    Name.Function: 0.6,
    Name.Class: 0.6,
    Name.Decorator: 0.6,
    Name.Builtin: 0.52,
    Name.Tag: 0.6,
    Name.Attribute: 0.08,
    Operator.Word: 0.83,
}


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A block of code in a document: its first and last QTextBlock by number, and its text."""

    first: int
    last: int
    language: str
    text: str


def write_markdown(document: QTextDocument, text: str, palette: QPalette) -> list[CodeBlock]:
    """Replace the document by `text`, read as markdown; return its code blocks."""
    # One edit: were images still there when the document is laid out, Qt would open the files that they name.
    cursor = QTextCursor(document)
    cursor.beginEditBlock()
    document.setMarkdown(text, FEATURES)
    _replace_images(document, 0)
    cursor.endEditBlock()
    return _dress(document, document.begin(), palette)


def append_markdown(document: QTextDocument, text: str, palette: QPalette) -> list[CodeBlock]:
    """Add `text`, read as markdown, as blocks of its own behind what the document holds; return its code blocks."""
    cursor = QTextCursor(document)
    cursor.movePosition(QTextCursor.MoveOperation.End)
    cursor.beginEditBlock()
    end, first, form = cursor.position(), cursor.blockNumber() + 1, cursor.blockFormat()
    # The first paragraph that is inserted loses its format and joins the block before it: one that is taken out again.
    cursor.insertMarkdown(f"{_STAND_IN}\n\n{text}", FEATURES)
    cursor.setPosition(end)
    cursor.setPosition(end + len(_STAND_IN), QTextCursor.MoveMode.KeepAnchor)
    cursor.removeSelectedText()
    cursor.setBlockFormat(form)  # an empty block, as behind a table, has taken that of the other
    _replace_images(document, first)
    cursor.endEditBlock()
    return _dress(document, document.findBlockByNumber(first), palette)


def cut_markdown(document: QTextDocument, end: int) -> None:
    """Remove the blocks behind the position `end`, which is the end of a block."""
    cursor = QTextCursor(document)
    cursor.setPosition(end)
    form = cursor.blockFormat()
    cursor.movePosition(QTextCursor.MoveOperation.End, QTextCursor.MoveMode.KeepAnchor)
    cursor.removeSelectedText()
    cursor.setBlockFormat(form)


def _dress(document: QTextDocument, first: QTextBlock, palette: QPalette) -> list[CodeBlock]:
    """Style the blocks from `first` on; return the code blocks among them."""
    start = first.blockNumber()
    cursor = QTextCursor(document)
    cursor.beginEditBlock()
    _style_blocks(document, start, palette)
    for table in _tables(document, start):
        _style_table(table, palette)
    cursor.endEditBlock()
    found = _code_blocks(document, start)
    for code in found:
        _colour_code(document, code, palette)
    return found


def _replace_images(document: QTextDocument, start: int) -> None:
    """Put the address of an image where the image would be: nothing is fetched for a model's answer."""
    block = document.findBlockByNumber(start)
    while block.isValid():
        images = [f for f in _fragments(block) if f.charFormat().isImageFormat()]
        for fragment in reversed(images):
            name = fragment.charFormat().toImageFormat().name()
            cursor = QTextCursor(document)
            cursor.setPosition(fragment.position())
            cursor.setPosition(fragment.position() + fragment.length(), QTextCursor.MoveMode.KeepAnchor)
            plain = QTextCharFormat()
            plain.setFontItalic(True)
            cursor.insertText(f"[image: {name}]", plain)
        block = block.next()


def _tables(document: QTextDocument, start: int) -> list[QTextTable]:
    """Return the tables from a block on, looking at nothing before it."""
    found = []
    block = document.findBlockByNumber(start)
    while block.isValid():
        table = QTextCursor(block).currentTable()
        if table is not None:
            found.append(table)
            block = document.findBlock(table.lastPosition())
        block = block.next()
    return found


def _style_blocks(document: QTextDocument, start: int, palette: QPalette) -> None:
    block = document.findBlockByNumber(start)
    while block.isValid():
        cursor = QTextCursor(block)
        if _is_code(block):
            cursor.mergeBlockFormat(_code_format(block))
            _select_block(cursor, block)
            fixed = _fixed(document)
            cursor.mergeCharFormat(fixed)
        else:
            spaced = QTextBlockFormat()
            spaced.setLineHeight(LINE_HEIGHT_PERCENT, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
            if block.textList() is None:
                # Qt leaves the mark of a task on the paragraphs that follow its list.
                spaced.setMarker(QTextBlockFormat.MarkerType.NoMarker)
            if level := block.blockFormat().headingLevel():
                spaced.setTopMargin(12 if block.blockNumber() else 0)
                spaced.setBottomMargin(4)
                _select_block(cursor, block)
                heading = QTextCharFormat()
                heading.setProperty(QTextFormat.Property.FontSizeAdjustment, max(0, 3 - level))
                heading.setFontWeight(QFont.Weight.DemiBold)
                cursor.mergeCharFormat(heading)
            cursor.mergeBlockFormat(spaced)
            _style_spans(document, block, palette)
        block = block.next()


def _style_spans(document: QTextDocument, block: QTextBlock, palette: QPalette) -> None:
    for fragment in _fragments(block):
        form = fragment.charFormat()
        changed = QTextCharFormat()
        if form.fontFixedPitch():
            changed = _fixed(document)
            changed.setBackground(QBrush(code_background(palette)))
        elif form.isAnchor():
            changed.setForeground(QBrush(mix(accent(palette), palette.color(QPalette.ColorRole.Text), 0.25)))
        else:
            continue
        cursor = QTextCursor(document)
        cursor.setPosition(fragment.position())
        cursor.setPosition(fragment.position() + fragment.length(), QTextCursor.MoveMode.KeepAnchor)
        cursor.mergeCharFormat(changed)


def _fixed(document: QTextDocument) -> QTextCharFormat:
    """Return the look of code: the system's fixed-pitch font in the size of the text around it."""
    form, font = QTextCharFormat(), document.defaultFont()
    form.setFontFamilies([code_font().family()])
    if font.pointSizeF() > 0:
        form.setFontPointSize(font.pointSizeF())
    else:
        form.setProperty(QTextFormat.Property.FontPixelSize, font.pixelSize())
    return form


def _code_format(block: QTextBlock) -> QTextBlockFormat:
    form = QTextBlockFormat()
    form.setNonBreakableLines(False)
    form.setLeftMargin(CODE_PADDING + 2)
    form.setRightMargin(CODE_PADDING)
    form.setTopMargin(0 if _continues(block.previous(), block) else CODE_PADDING + 8)
    form.setBottomMargin(0 if _continues(block, block.next()) else CODE_PADDING + 12)
    return form


def _style_table(table: QTextTable, palette: QPalette) -> None:
    form = table.format()
    form.setBorder(1)
    form.setBorderBrush(QBrush(hairline(palette)))
    form.setBorderStyle(QTextFrameFormat.BorderStyle.BorderStyle_Solid)
    form.setBorderCollapse(True)
    form.setCellPadding(6)
    form.setCellSpacing(0)
    form.setTopMargin(8)
    form.setBottomMargin(8)
    table.setFormat(form)
    for row in range(table.rows()):
        for column in range(table.columns()):
            cursor = table.cellAt(row, column).firstCursorPosition()
            flat = QTextBlockFormat()
            flat.setTopMargin(0)
            flat.setBottomMargin(0)
            cursor.mergeBlockFormat(flat)
            if row == 0:
                _select_block(cursor, cursor.block())
                bold = QTextCharFormat()
                bold.setFontWeight(QFont.Weight.DemiBold)
                cursor.mergeCharFormat(bold)


def _code_blocks(document: QTextDocument, start: int) -> list[CodeBlock]:
    found: list[CodeBlock] = []
    block = document.findBlockByNumber(start)
    while block.isValid():
        if _is_code(block):
            first, lines = block, [block.text()]
            while _continues(block, block.next()):
                block = block.next()
                lines.append(block.text())
            found.append(CodeBlock(first.blockNumber(), block.blockNumber(), _language(first), "\n".join(lines)))
        block = block.next()
    return found


def _colour_code(document: QTextDocument, code: CodeBlock, palette: QPalette) -> None:
    """Draw a code block in the colours of its language, where that is known."""
    lexer = _lexer(code.language) if _is_coloured(code) else None
    if lexer is None:
        return
    ranges: dict[int, list[QTextLayout.FormatRange]] = {}
    number, column = code.first, 0
    end_s = time.thread_time() + MOST_COLOURING_S
    for kind, value in lexer.get_tokens(code.text):
        if time.thread_time() > end_s:
            break
        form = _token_format(kind, palette)
        for i, part in enumerate(value.split("\n")):
            if i:
                number, column = number + 1, 0
            if part and form is not None:
                one = QTextLayout.FormatRange()
                one.start, one.length, one.format = column, _utf16_length(part), form
                ranges.setdefault(number, []).append(one)
            column += _utf16_length(part)
    for number, formats in ranges.items():
        document.findBlockByNumber(number).layout().setFormats(formats)
    # At once: every call for itself lays out what follows.
    first, last = document.findBlockByNumber(code.first), document.findBlockByNumber(code.last)
    document.markContentsDirty(first.position(), last.position() + last.length() - first.position())


def _is_coloured(code: CodeBlock) -> bool:
    return (
        code.language.lower() in LANGUAGES
        and len(code.text) <= MOST_COLOURED_CHARACTERS
        and all(len(line) <= MOST_COLOURED_LINE for line in code.text.split("\n"))
    )


@functools.lru_cache(64)
def _lexer(language: str) -> Any:
    """Return what reads a language; None where it is not known. To find one takes longer than to read some lines."""
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False) if language else None
    except ClassNotFound:
        return None


def _token_format(kind: object, palette: QPalette) -> QTextCharFormat | None:
    while kind not in _HUES:
        if kind is Token or kind is None:
            return None
        kind = kind.parent  # type: ignore[attr-defined]
    hue = _HUES[kind]
    text = palette.color(QPalette.ColorRole.Text)
    form = QTextCharFormat()
    if hue is None:
        form.setForeground(QBrush(mix(text, palette.color(QPalette.ColorRole.Base), 0.42)))
        form.setFontItalic(True)
    else:
        form.setForeground(QBrush(QColor.fromHslF(hue, 0.6, 0.72 if is_dark(palette) else 0.36)))
    return form


def code_background(palette: QPalette) -> QColor:
    """Return the colour behind code."""
    return mix(palette.color(QPalette.ColorRole.Base), palette.color(QPalette.ColorRole.Text), 0.06)


def _is_code(block: QTextBlock) -> bool:
    form = block.blockFormat()
    return form.hasProperty(QTextFormat.Property.BlockCodeFence) or form.hasProperty(
        QTextFormat.Property.BlockCodeLanguage
    )


def _continues(block: QTextBlock, after: QTextBlock) -> bool:
    return (
        block.isValid()
        and after.isValid()
        and _is_code(block)
        and _is_code(after)
        and _language(block) == _language(after)
    )


def _language(block: QTextBlock) -> str:
    return str(block.blockFormat().property(QTextFormat.Property.BlockCodeLanguage) or "")


def _fragments(block: QTextBlock) -> list[QTextFragment]:
    found = []
    each = block.begin()
    while not each.atEnd():
        found.append(each.fragment())
        each += 1
    return found


def _select_block(cursor: QTextCursor, block: QTextBlock) -> None:
    cursor.setPosition(block.position())
    cursor.setPosition(block.position() + block.length() - 1, QTextCursor.MoveMode.KeepAnchor)


def _utf16_length(text: str) -> int:
    return len(text) + sum(ord(c) > 0xFFFF for c in text)
