"""Signs and texts on the accent colour can be read, whatever a palette says of highlighted text."""

import pytest
from PySide6.QtGui import QColor, QPalette, QTextDocument

from app.ui.controls import SignButton
from app.ui.text_matches import marks, matches_in
from app.ui.theme import ink_on

DARK, PALE = ("#007aff", "#8b2f8f", "#e0383e", "#8c8c8c"), ("#ffc726", "#62ba46", "#f0f0f0", "#ffffff")
"""The accents of a Mac: blue, purple, red, graphite; yellow, green, and what is paler still."""
INKS = [*((fill, "#ffffff") for fill in DARK), *((fill, "#000000") for fill in PALE)]


def palette_of(accent: str) -> QPalette:
    """Return a palette whose highlighted text cannot be seen on its accent."""
    palette = QPalette()
    palette.setColor(QPalette.ColorRole.Accent, QColor(accent))
    palette.setColor(QPalette.ColorRole.HighlightedText, QColor(accent))
    return palette


@pytest.mark.parametrize(("fill", "ink"), INKS)
def test_ink_can_be_told_from_what_it_is_on(fill, ink):
    assert ink_on(QColor(fill)).name() == ink


@pytest.mark.parametrize(("fill", "ink"), [("#007aff", "#ffffff"), ("#ffc726", "#000000")])
def test_the_sign_of_a_solid_button_is_seen(qtbot, fill, ink):
    button = SignButton("stop", "stop", "Stop", solid=True)
    qtbot.addWidget(button)
    button.setPalette(palette_of(fill))
    button.resize(40, 40)
    picture = button.grab().toImage()
    middle, beside = picture.rect().center(), (picture.width() // 2, picture.height() // 8)
    assert picture.pixelColor(middle).name() == ink
    assert picture.pixelColor(*beside).name() == fill


@pytest.mark.parametrize(("fill", "ink"), [("#007aff", "#ffffff"), ("#ffc726", "#000000")])
def test_the_place_that_was_found_is_read(qapp, fill, ink):
    document = QTextDocument("one and one")
    made = marks(document, matches_in(document, "one"), 1, palette_of(fill))
    assert made[1].format.background().color().name() == fill
    assert made[1].format.foreground().color().name() == ink
