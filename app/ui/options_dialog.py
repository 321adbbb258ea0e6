"""The settings of one chat."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QFrame, QScrollArea, QVBoxLayout, QWidget

from app.chat.options import ChatOptions
from app.ui.close_box import CloseBox
from app.ui.options_editor import OptionsEditor
from app.ui.scroll_bar import quieten
from app.ui.theme import GAP, WIDE, SubtleLabel


class OptionsDialog(QDialog):
    """Edits the options of the open chat; changes apply at once, from the next reply on."""

    changed = Signal(object)
    """ChatOptions."""

    def __init__(self, title: str, options: ChatOptions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("options_dialog")
        self.setAccessibleName("Chat settings")
        self.setWindowTitle("Chat Settings")
        about = SubtleLabel(f"For “{title}” alone, from the next reply on. What new chats start with is in Settings.")
        editor = OptionsEditor(options)
        editor.changed.connect(self.changed)
        page = QWidget()
        inside = QVBoxLayout(page)
        inside.setContentsMargins(WIDE, WIDE, WIDE, WIDE)
        inside.setSpacing(WIDE)
        inside.addWidget(about)
        inside.addWidget(editor)
        inside.addStretch(1)
        scroll = QScrollArea()
        scroll.setObjectName("options_scroll")
        scroll.setAccessibleName("Chat settings")
        scroll.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # Tab goes to the controls inside
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        quieten(scroll)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(page)
        buttons = CloseBox(self, "options")
        buttons.setContentsMargins(WIDE, 0, WIDE, 0)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, WIDE)
        column.setSpacing(GAP)
        column.addWidget(scroll)
        column.addWidget(buttons)
        self.resize(560, 620)
