"""The Mac's icon: whole, in every size, and drawn from the picture that the window has."""

import struct

from PySide6.QtGui import QImage

from app.resources import icon_path
from tests.mac.icon import TYPES

MARGIN = 0.1


def entries(content: bytes) -> dict[bytes, bytes]:
    """Take an icns file apart."""
    magic, length = struct.unpack(">4sI", content[:8])
    assert magic == b"icns"
    assert length == len(content)
    found, at = {}, 8
    while at < length:
        name, size = struct.unpack(">4sI", content[at : at + 8])
        assert size > 8
        found[name] = content[at + 8 : at + size]
        at += size
    assert at == length
    return found


def test_the_icon_has_every_size() -> None:
    parts = entries(icon_path().with_suffix(".icns").read_bytes())
    table = parts.pop(b"TOC ")
    assert parts.keys() == TYPES.keys()
    listed = dict(struct.iter_unpack(">4sI", table))
    assert listed == {name: len(png) + 8 for name, png in parts.items()}
    for name, pixels in TYPES.items():
        image = QImage.fromData(parts[name], "PNG")
        assert (image.width(), image.height()) == (pixels, pixels), name
        assert image.hasAlphaChannel()


def test_the_icon_keeps_the_margin_and_is_the_windows_own() -> None:
    parts = entries(icon_path().with_suffix(".icns").read_bytes())
    image = QImage.fromData(parts[b"ic09"], "PNG")
    edge = int(512 * MARGIN) - 2
    assert all(image.pixelColor(x, y).alpha() == 0 for x in range(512) for y in (0, edge))
    assert image.pixelColor(256, 60).alpha() == 255
    window = QImage(str(icon_path()))
    for x, y in ((180, 180), (180, 330), (330, 330), (256, 60)):
        ours, theirs = image.pixelColor(x, y), window.pixelColor(x, y)
        assert max(abs(ours.red() - theirs.red()), abs(ours.blue() - theirs.blue())) < 8
