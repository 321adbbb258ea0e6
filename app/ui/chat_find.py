"""Finds a text in the open chat: in what is shown, and in earlier messages that are not built yet."""

from PySide6.QtCore import QObject
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QApplication

from app.chat.attachment import attached_in
from app.chat.message import Role
from app.chat.reasoning import parts_of
from app.store.store import StoredMessage
from app.ui.announcements import announce
from app.ui.find_bar import FindBar
from app.ui.markdown import write_markdown
from app.ui.text_matches import count_plain, matches_in
from app.ui.transcript import Place, Transcript


class ChatFind(QObject):
    """Connects a find bar with a transcript. Reasoning and files are searched too, and unfolded at a place in them."""

    def __init__(self, bar: FindBar, transcript: Transcript) -> None:
        super().__init__(bar)
        self._bar = bar
        self._transcript = transcript
        self._places: list[Place] = []
        self._origin = 0
        """The message from which on a needle is looked for while it is typed."""
        self._unbuilt: dict[tuple[int, str], int] = {}
        self._current: Place | None = None
        bar.searched.connect(self._search)
        bar.moved.connect(self.move)
        bar.closed.connect(self.close)
        transcript.content_changed.connect(self._refresh)

    @property
    def is_open(self) -> bool:
        """Whether the bar is there."""
        return not self._bar.isHidden()

    @property
    def takes_escape(self) -> bool:
        """Whether the focus is in the bar."""
        focused = QApplication.focusWidget()
        return focused is not None and self._bar.isAncestorOf(focused)

    def open(self) -> None:
        """Show the bar and put the cursor into it."""
        self._origin = self._transcript.first_in_sight
        self._bar.show()
        self._bar.edit.setFocus()
        self._bar.edit.selectAll()
        self._search()

    def close(self) -> None:
        """Hide the bar and all marks."""
        self._bar.hide()
        self._current = None
        self._places = []
        for view in self._transcript.views:
            view.find_all("")

    def move(self, step: int) -> None:
        """Go to the next place (1) or the one before (-1), round the ends."""
        if not self.is_open:
            self.open()
        elif self._places:
            at = self._places.index(self._current) if self._current in self._places else -step
            place = self._places[(at + step) % len(self._places)]
            self._origin = place[0]
            self._go_to(place)

    def _search(self) -> None:
        self._unbuilt.clear()
        self._collect()
        self._current = None
        if self._places:
            self._go_to(next((place for place in self._places if place[0] >= self._origin), self._places[0]))
        else:
            self._show_count()

    def _refresh(self) -> None:
        """Follow a text that grows, or another conversation, without leaving the place."""
        if self.is_open:
            self._collect()
            if self._current not in self._places:
                self._current = None
            self._show_current()

    def _collect(self) -> None:
        needle = self._bar.edit.text()
        views = {view.stored.id: view for view in self._transcript.views}
        self._places = []
        for stored in self._transcript.messages:
            if (view := views.get(stored.id)) is not None:
                view.find_all(needle)
                count = view.match_count
            else:
                key = (stored.id, needle)
                if key not in self._unbuilt:
                    self._unbuilt[key] = self._count_unbuilt(stored, needle)
                count = self._unbuilt[key]
            self._places += [(stored.id, i) for i in range(count)]

    def _count_unbuilt(self, stored: StoredMessage, needle: str) -> int:
        text = stored.message.text
        # Marks of markdown may stand between words, so each word is looked for by itself before a document is made.
        folded = text.casefold()
        if not needle or not all(word in folded for word in needle.casefold().split()):
            return 0
        if stored.message.role is Role.USER:
            attached = attached_in(text)
            return sum(count_plain(part, needle) for part in (attached.spoken, *(file.text for file in attached.files)))
        parts, document = parts_of(text), QTextDocument()
        write_markdown(document, parts.answer, self._bar.palette())
        return count_plain(parts.reasoning or "", needle) + len(matches_in(document, needle))

    def _go_to(self, place: Place) -> None:
        self._current = place
        self._transcript.build_back_to(place[0])
        for view in self._transcript.views:
            if view.stored.id == place[0]:
                view.find_all(self._bar.edit.text())
                view.unfold_match(place[1])
        self._show_current()
        self._transcript.reveal(*place)
        announce(self._bar, self._bar.count_text)

    def _show_current(self) -> None:
        for view in self._transcript.views:
            here = self._current is not None and self._current[0] == view.stored.id
            view.find_all(self._bar.edit.text())
            view.show_match(self._current[1] if here and self._current is not None else None)
        self._show_count()

    def _show_count(self) -> None:
        total = len(self._places)
        if not self._bar.edit.text():
            text = ""
        elif not total:
            text = "Not found"
        elif self._current is None:
            text = f"{total:,} found"
        else:
            text = f"{self._places.index(self._current) + 1:,} of {total:,}"
        self._bar.show_count(text, can_move=bool(total))
