"""What a model thought before it answered: one line that unfolds."""

from PySide6.QtWidgets import QWidget

from app.chat.reasoning import Parts
from app.ui.disclosure import Disclosure
from app.viewmodels.panel_state import format_seconds


class ReasoningPart(Disclosure):
    """Folded at first. Hidden where there is none."""

    def __init__(self, message_id: int, parent: QWidget | None = None) -> None:
        super().__init__("reasoning", str(message_id), "the reasoning", parent)
        self.hide()

    def show_parts(self, parts: Parts, took_s: float | None) -> None:
        """Show the reasoning of a reply, and how long it took where that is known."""
        reasoning = parts.reasoning or ""
        self.setVisible(bool(reasoning) or parts.is_thinking)
        said = "Reasoning…" if parts.is_thinking else "Reasoning"
        self.show_content(f"{said}  {format_seconds(took_s)}" if took_s else said, reasoning)
