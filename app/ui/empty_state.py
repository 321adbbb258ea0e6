"""What stands where a conversation will be: what to do next."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from app.ui.controls import SignButton
from app.ui.theme import GAP, WIDE, SubtleLabel, TextLabel, scaled_font
from app.viewmodels.reply import ChatState

TEXT_WIDTH = 480
SUGGESTIONS = (
    "Tell me a story about a fox who finds a lantern.",
    "Write a short poem about rain.",
    "What should I have for breakfast?",
)
_TEXTS = {
    ChatState.NO_MODEL: ("No model is open", "Choose one that fits this machine, or open any folder with a model."),
    ChatState.LOADING: ("Opening the model", "You can write your first message meanwhile."),
    ChatState.FAILED: ("The engine is not running", "Restart it to chat; your conversations are safe."),
}
_STARTER = (
    "Try Nibble out",
    "The starter model answers at once and writes little stories, but it knows nothing. A real model gives real "
    "answers, and everything still stays on this machine.",
)
_READY = (
    "What shall we talk about?",
    "Everything stays on this machine. The chat's KV cache is held in int4 unless you switch it.",
)


class EmptyState(QWidget):
    """Shown for a conversation without messages."""

    suggestion_chosen = Signal(str)
    folder_asked = Signal()
    model_wanted = Signal()
    """The person wants a model that gives real answers."""
    restart_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("empty_state")
        self._title = TextLabel()
        self._title.setObjectName("empty_title")
        self._title.setFont(scaled_font(self._title.font(), 1.7, bold=True))
        self._text = SubtleLabel()
        self._text.setObjectName("empty_text")
        self._text.setMaximumWidth(TEXT_WIDTH)
        for label in (self._title, self._text):
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            label.setWordWrap(True)
        self._folder = _button("empty_open_folder", "Open Model Folder…")
        self._folder.clicked.connect(self.folder_asked)
        self._get = _button("empty_get_model", "Get a Real Model…")
        self._get.clicked.connect(self.model_wanted)
        self._restart = _button("empty_restart", "Restart Engine")
        self._restart.clicked.connect(self.restart_asked)
        self._suggestions = [
            SignButton("", f"suggestion_{i}", "Write this into the message field", text=text, framed=True)
            for i, text in enumerate(SUGGESTIONS)
        ]
        column = QVBoxLayout(self)
        column.setContentsMargins(2 * WIDE, WIDE, 2 * WIDE, WIDE)
        column.setSpacing(GAP)
        column.addStretch(2)
        column.addWidget(self._title)
        middle = QHBoxLayout()
        middle.addStretch(1)
        middle.addWidget(self._text, 100)
        middle.addStretch(1)
        column.addLayout(middle)
        column.addSpacing(WIDE)
        for suggestion in self._suggestions:
            column.addWidget(suggestion, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addSpacing(GAP)
        for button in (self._get, self._folder, self._restart):
            column.addWidget(button, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(3)
        for suggestion, text in zip(self._suggestions, SUGGESTIONS, strict=True):
            suggestion.clicked.connect(lambda _=False, t=text: self.suggestion_chosen.emit(t))
        self.show_state(ChatState.NO_MODEL)

    def show_state(self, state: ChatState, *, is_starter: bool = False) -> None:
        """Say what can be done in `state`, with the starter or another model."""
        title, text = _TEXTS.get(state, _STARTER if is_starter else _READY)
        self._title.setText(title)
        self._text.setText(text)
        self.setAccessibleName(f"{title}. {text}")
        for suggestion in self._suggestions:
            suggestion.setVisible(state not in _TEXTS)
        self._get.setVisible(state is ChatState.NO_MODEL or (is_starter and state not in _TEXTS))
        self._folder.setVisible(state is ChatState.NO_MODEL)
        self._restart.setVisible(state is ChatState.FAILED)


def _button(name: str, text: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(name)
    button.setAccessibleName(text)
    button.setAutoDefault(False)
    return button
