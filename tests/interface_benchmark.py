"""What the window costs: `QT_QPA_PLATFORM=offscreen python -m tests.interface_benchmark`.

Three figures, each with its target: how busy the interface thread is while a reply of 30,000 characters streams at 100
tokens a second; how long a chat of 500 messages takes to its first paint; the longest pause while a list of 10,000
conversations is scrolled and searched. Prints one line each, and one JSON line.
"""

import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PySide6.QtWidgets import QApplication

from app.chat.message import Message, Role
from app.chat.options import ChatOptions
from app.store.store import MessageState, Store, StoredMessage
from app.ui.sidebar import Sidebar
from app.ui.transcript import Transcript
from app.viewmodels.chat_session import PUBLISH_INTERVAL_MS
from app.viewmodels.conversation_list import ConversationList
from tests.screenshots import ANSWER

CHARACTERS, CHARACTERS_A_TOKEN, TOKENS_A_SECOND = 30_000, 4, 100
STRETCHES, STRETCH_S = 5, 3.0
"""How many parts of the text are streamed by the clock, spread over its length, and for how long each."""
MESSAGES, CONVERSATIONS = 500, 10_000
SEARCHES = ("l", "la", "lantern 17", "nothing of the kind", "")


def busy_ms(application: QApplication, call: Callable[[], object]) -> float:
    """Return how long `call` and all that follows from it keep the interface thread."""
    began_s = time.perf_counter()
    call()
    for _ in range(3):
        application.processEvents()
    return 1000 * (time.perf_counter() - began_s)


def streaming(application: QApplication) -> dict[str, float]:
    """Let a reply grow as the session publishes it, by the clock, in stretches of its length."""
    text = ((ANSWER + "\n") * (CHARACTERS // len(ANSWER) + 1))[:CHARACTERS]
    transcript = Transcript()
    transcript.resize(640, 600)
    transcript.show()
    transcript.show_messages([StoredMessage(1, Message(Role.USER, "Tell me all"), MessageState.COMPLETE, None)])
    transcript.add_message(StoredMessage(2, Message(Role.ASSISTANT, ""), MessageState.STREAMING, None))
    shares, pauses_ms = [], []
    for start in range(0, CHARACTERS, CHARACTERS // STRETCHES):
        share, longest_ms = _stretch(application, transcript, text, start)
        shares.append(share)
        pauses_ms.append(longest_ms)
    transcript.close()
    return {"busy_share": statistics.fmean(shares), "busy_share_at_the_end": shares[-1], "longest_ms": max(pauses_ms)}


def _stretch(application: QApplication, transcript: Transcript, text: str, start: int) -> tuple[float, float]:
    """Stream for `STRETCH_S` from `start` on; return the share of the time that was busy and the longest pause."""
    rate = TOKENS_A_SECOND * CHARACTERS_A_TOKEN
    for settling in (True, False):  # the jump to `start` is no part of the figures
        began_s = published_s = time.perf_counter()
        busy, pauses_ms = 0.0, [0.0]
        while (now_s := time.perf_counter()) < began_s + (0.5 if settling else STRETCH_S):
            written = start + round(rate * (0 if settling else now_s - began_s))
            if now_s >= published_s:
                published_s += PUBLISH_INTERVAL_MS / 1000
                message = Message(Role.ASSISTANT, text[:written])
                stored = StoredMessage(2, message, MessageState.STREAMING, None)
                pauses_ms.append(busy_ms(application, lambda s=stored: transcript.change_message(s)))  # type: ignore[misc]
            else:
                pauses_ms.append(busy_ms(application, lambda: None))
            busy += pauses_ms[-1]
            time.sleep(0.002)
    return busy / (1000 * STRETCH_S), max(pauses_ms)


def opening(application: QApplication, store: Store) -> float:
    """Open a long chat; return the milliseconds to its first paint."""
    chat = store.create_conversation("Long", "", ChatOptions())
    with store.together():
        for i in range(MESSAGES):
            text = ANSWER if i % 2 else f"Question {i}"
            store.add_message(chat.id, Message(Role.ASSISTANT if i % 2 else Role.USER, text))
    transcript = Transcript()
    transcript.resize(640, 600)
    transcript.show()
    application.processEvents()

    def show() -> None:
        transcript.show_messages(store.messages(chat.id))
        application.processEvents()
        transcript.viewport().repaint()

    took_ms = busy_ms(application, show)
    transcript.close()
    return took_ms


def listing(application: QApplication, store: Store) -> dict[str, float]:
    """Scroll and search a long list; return the longest pauses."""
    with store.together():
        for i in range(CONVERSATIONS):
            chat = store.create_conversation(f"Conversation {i} about {i % 97}", "", ChatOptions())
            store.add_message(chat.id, Message(Role.USER, f"Words number {i}, lantern {i % 31}"))
    conversations = ConversationList(store)
    sidebar = Sidebar(conversations)
    sidebar.resize(230, 800)
    sidebar.show()
    application.processEvents()
    bar = sidebar.list.verticalScrollBar()
    steps = [bar.maximum() * i // 100 for i in range(101)]
    scrolls = [busy_ms(application, lambda to=to: bar.setValue(to)) for to in steps]  # type: ignore[misc]
    searches = [busy_ms(application, lambda t=t: sidebar.search.setText(t)) for t in SEARCHES]  # type: ignore[misc]
    sidebar.close()
    return {"scroll_longest_ms": max(scrolls), "search_longest_ms": max(searches)}


def main() -> None:
    """Measure and print."""
    application = QApplication(sys.argv[:1])
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "chats.sqlite3")
        streamed = streaming(application)
        opened_ms = opening(application, store)
        listed = listing(application, store)
        store.close()
    print(
        f"streaming {CHARACTERS:,} characters at {TOKENS_A_SECOND} tokens/s: busy {streamed['busy_share']:.1%} of the "
        f"time, {streamed['busy_share_at_the_end']:.1%} at the end, longest {streamed['longest_ms']:.0f} ms "
        "(target: under 15 %)"
    )
    print(f"a chat of {MESSAGES} messages: first paint after {opened_ms:.0f} ms (target: under 300 ms)")
    print(
        f"{CONVERSATIONS:,} conversations: longest pause {listed['scroll_longest_ms']:.0f} ms scrolling, "
        f"{listed['search_longest_ms']:.0f} ms searching (target: under 50 ms)"
    )
    print(json.dumps({"machine": platform.platform(), **streamed, "opened_ms": opened_ms, **listed}))


if __name__ == "__main__":
    main()
