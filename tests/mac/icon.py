"""Draw the app's icon for Macs from its picture: `python -m tests.mac.icon`."""

import io
import struct
from pathlib import Path

from PIL import Image
from PySide6.QtCore import QBuffer, QIODevice, Qt
from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

from app.resources import icon_path

TYPES = {
    b"icp4": 16,
    b"ic11": 32,  # 16 points at two pixels each
    b"icp5": 32,
    b"ic12": 64,
    b"ic07": 128,
    b"ic13": 256,
    b"ic08": 256,
    b"ic14": 512,
    b"ic09": 512,
    b"ic10": 1024,
}
"""Every size that a Mac asks for, in pixels, by its name in the file."""
_OLD = {b"icp4": 16, b"icp5": 32}
"""What Pillow leaves out."""


def draw(picture: Path, pixels: int) -> bytes:
    """Return the picture as a PNG of `pixels` by `pixels`."""
    image = QImage(pixels, pixels, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    QSvgRenderer(str(picture)).render(painter)
    painter.end()
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")
    return bytes(buffer.data().data())


def icns(picture: Path) -> bytes:
    """Return the icon file: Pillow's, with the small sizes that it leaves out put in after its table of contents."""
    images = [Image.open(io.BytesIO(draw(picture, size))) for size in sorted(set(TYPES.values()))]
    file = io.BytesIO()
    images[-1].save(file, "icns", append_images=images[:-1])
    written = file.getvalue()
    (contents,) = struct.unpack(">I", written[12:16])
    table, parts = written[8 : 8 + contents], written[8 + contents :]
    for name, size in _OLD.items():
        png = draw(picture, size)
        table += name + struct.pack(">I", 8 + len(png))
        parts += name + struct.pack(">I", 8 + len(png)) + png
    table = b"TOC " + struct.pack(">I", len(table)) + table[8:]
    return b"icns" + struct.pack(">I", 8 + len(table) + len(parts)) + table + parts


def main() -> None:
    """Write `nibble.icns` beside the picture."""
    QGuiApplication([])
    icons = icon_path().parent
    (icons / "nibble.icns").write_bytes(icns(icons / "nibble.svg"))


if __name__ == "__main__":
    main()
