"""Everything the window shows, in one value; the composition root builds it."""

from dataclasses import dataclass

from app.viewmodels.attachments import Attachments
from app.viewmodels.cache_course import CacheCourse
from app.viewmodels.chat_session import ChatSession
from app.viewmodels.comparisons import Comparisons
from app.viewmodels.conversation_list import ConversationList
from app.viewmodels.deletions import Deletions
from app.viewmodels.downloads import Downloads
from app.viewmodels.engine_client import EngineClient
from app.viewmodels.hub_token import HubToken
from app.viewmodels.memory_notes import MemoryNotes
from app.viewmodels.model_list import ModelList
from app.viewmodels.open_model import OpenModel
from app.viewmodels.session_stats import SessionStats
from app.viewmodels.settings_model import SettingsModel
from app.viewmodels.support import Support
from app.viewmodels.updates import Updates


@dataclass(frozen=True, slots=True)
class Models:
    """The state behind one window."""

    engine: EngineClient
    model: OpenModel
    catalogue: ModelList
    session: ChatSession
    course: CacheCourse
    memory: MemoryNotes
    conversations: ConversationList
    deletions: Deletions
    attachments: Attachments
    settings: SettingsModel
    stats: SessionStats
    comparisons: Comparisons
    support: Support
    updates: Updates
    token: HubToken
    downloads: Downloads
