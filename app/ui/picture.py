"""What draws itself and is a picture to a screen reader, which passes over a plain widget."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QPixmap
from PySide6.QtWidgets import QWidget

from app.ui.theme import TextLabel


class Picture(TextLabel):
    """Base of meters and plots: they draw themselves, and say what they show in their accessible description.

    Qt takes a label with a pixmap for a graphic. A factory could give the role, too, but Qt would ask it, in Python, of
    every widget, dying ones among them.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        unseen = QPixmap(1, 1)
        unseen.fill(Qt.GlobalColor.transparent)
        self.setPixmap(unseen)
