"""The comparisons of this session and those kept with conversations."""

import logging
from datetime import UTC, datetime

from app.chat.comparison import KeptComparison
from app.engine.protocol import Finished
from app.errors import NibbleError
from app.store.comparisons import MOST_BYTES, MOST_COMPARISONS, ComparisonFile
from app.viewmodels.compare_table import CompareResult
from app.viewmodels.session_stats import SessionStats

_log = logging.getLogger(__name__)

BOUND_TEXT = (
    f"A comparison is kept with its conversation: of all the latest {MOST_COMPARISONS:,}, "
    f"at most {MOST_BYTES // 1_000_000} MB. Older ones go at the next start."
)


class Comparisons:
    """Keeps comparisons with the conversation they were made beside, and counts them among the session's stats."""

    def __init__(self, file: ComparisonFile, stats: SessionStats) -> None:
        self._file = file
        self._stats = stats

    def keep(self, result: CompareResult, prompt: str, conditions: str, conversation_id: int | None) -> KeptComparison:
        """Keep a comparison. Raises NibbleError where it lasts for this session only, for want of disk."""
        kept = KeptComparison(
            conversation_id=conversation_id,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            prompt=prompt,
            conditions=conditions,
            fp16_text=result.fp16.text,
            int4_text=result.int4.text,
            comparison=result.comparison,
            rounds=result.all_rounds,
        )
        self._stats.add_comparison(kept)
        if conversation_id is not None:
            self._file.add(kept)
        return kept

    def latest(self, conversation_id: int | None) -> KeptComparison | None:
        """Return the last comparison made beside a conversation, None where there is none to be had."""
        if conversation_id is None:
            return None
        try:
            return next(reversed(self._file.of_conversation(conversation_id)), None)
        except NibbleError as error:
            _log.warning("%s", error)
            return None


def result_of(kept: KeptComparison) -> CompareResult:
    """Return a kept comparison as the table and the texts show it."""
    first = kept.rounds[0]
    return CompareResult(
        Finished("", kept.fp16_text, (), first.fp16),
        Finished("", kept.int4_text, (), first.int4),
        kept.comparison,
        kept.rounds,
    )


def kept_text(kept: KeptComparison) -> str:
    """Say when a kept comparison was made, in this machine's time."""
    moment = datetime.fromisoformat(kept.made_at).astimezone()
    return f"Kept from {moment.day} {moment:%B %Y, %H:%M}."
