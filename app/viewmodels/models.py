"""Everything the window shows, in one value; the composition root builds it."""

from dataclasses import dataclass

from app.viewmodels.chat_session import ChatSession
from app.viewmodels.comparisons import Comparisons
from app.viewmodels.conversation_list import ConversationList
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.open_model import OpenModel
from app.viewmodels.session_stats import SessionStats
from app.viewmodels.settings_model import SettingsModel


@dataclass(frozen=True, slots=True)
class Models:
    """The state behind one window."""

    engine: EngineClient
    model: OpenModel
    session: ChatSession
    conversations: ConversationList
    settings: SettingsModel
    stats: SessionStats
    comparisons: Comparisons
