"""The window's process: builds every object, connects them, runs the loop, and ends in order."""

import asyncio
import faulthandler
import logging
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QSettings, QTimer
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication, QMessageBox
from qasync import QEventLoop

from app import __version__
from app.catalogue.download_protocol import download_command
from app.catalogue.entries import CatalogueEntry, catalogue
from app.catalogue.token_protocol import token_command
from app.engine.command import engine_command
from app.errors import NibbleError
from app.instance_lock import InstanceLock
from app.log import start_logging
from app.paths import Paths, default_paths
from app.resources import icon_path, is_mac_app, releases_address, starter_model_path
from app.settings.file import load_settings
from app.settings.schema import UpdateCheck
from app.stats.history import SessionHistory
from app.store.comparisons import ComparisonFile
from app.store.store import Store
from app.ui.look import use_one_font
from app.ui.main_window import MainWindow
from app.ui.quit_filter import QuitFilter
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
from app.viewmodels.models import Models
from app.viewmodels.open_model import OpenModel
from app.viewmodels.saved_caches import SavedCaches
from app.viewmodels.session_stats import SessionStats
from app.viewmodels.settings_model import SettingsModel
from app.viewmodels.support import Support
from app.viewmodels.updates import Updates

_log = logging.getLogger(__name__)

REPORT_WRITTEN = "A report was written, without texts of chats: Help, Show Last Crash Report."


class Program:
    """One window with everything behind it."""

    def __init__(self, paths: Paths, command: Sequence[str], starter_path: Path) -> None:
        loaded = load_settings(paths.settings_file)
        self.store = Store(paths.database)
        try:
            self.store.recover()
        except NibbleError:
            self.store.close()
            raise
        self.engine = EngineClient(command)
        settings = SettingsModel(loaded.settings, paths.settings_file)
        model = OpenModel(self.engine, settings, starter_path)
        session = ChatSession(self.engine, model, self.store, settings)
        conversations = ConversationList(self.store)
        comparisons = ComparisonFile(paths.comparisons)
        spoiled = self._match_comparisons(comparisons)
        entries, missing_catalogue = _entries()
        token = HubToken(token_command())
        downloads = Downloads(download_command(), paths.downloads, token)
        self.saved_caches = SavedCaches(self.engine, self.store, settings, paths.saved_caches)
        stats = SessionStats(self.engine, SessionHistory(paths.sessions))
        self.models = Models(
            engine=self.engine,
            model=model,
            catalogue=ModelList(self.engine, model, settings, entries, starter_path, downloads),
            session=session,
            course=CacheCourse(session),
            memory=MemoryNotes(session, model),
            conversations=conversations,
            attachments=Attachments(self.engine, model),
            deletions=Deletions(session, conversations),
            settings=settings,
            stats=stats,
            comparisons=Comparisons(comparisons, stats),
            support=Support(paths, lambda: self.engine.machine, self._texts),
            updates=Updates(releases_address()),
            token=token,
            downloads=downloads,
        )
        geometry = QSettings(str(paths.config / "window.ini"), QSettings.Format.IniFormat)
        self.window = MainWindow(self.models, geometry)
        self.models.downloads.token_wanted.connect(self.window.commands.show_token)
        self.engine.died.connect(self.models.support.report)
        fault = self.models.support.report_fault(paths.fault_file)
        broke = f"Nibble broke the last time it ran. {REPORT_WRITTEN}" if fault else ""
        said = (loaded.notice, self.store.notice, spoiled, missing_catalogue, broke)
        notices = [notice for notice in said if notice]
        if notices:
            self.window.notice.show_notice(notices[0], " ".join(notices[1:]))

    def _match_comparisons(self, comparisons: ComparisonFile) -> str:
        """Keep the comparisons of conversations that are there; return what to say where that failed, "" otherwise."""
        try:
            if self.store.is_new:
                comparisons.set_aside()
            else:
                comparisons.prune({conversation.id for conversation in self.store.conversations()})
        except NibbleError as error:
            return str(error)
        return ""

    def start(self, model: Path | None = None) -> None:
        """Show the window; once it stands the engine starts, and opens the folder `model` or what was open last."""
        self.window.show()
        path = "" if model is None else str(model.expanduser().absolute())
        QTimer.singleShot(0, self.window, lambda: self.models.model.start(path))
        if self.models.settings.settings.update_check is UpdateCheck.AT_START and self.models.updates.can_ask:
            self.window.commands.check_for_updates(asked=False)

    async def close(self) -> None:
        """End the downloads and the engine, then store what was written. Returns once no process is left."""
        self.models.updates.close()
        self.models.deletions.close()
        self.models.session.close()
        await asyncio.gather(self.models.downloads.close(), self.models.token.close(), self.engine.shutdown())
        self.store.close()

    def report(self, kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        """Show an exception that nobody caught: the world's as written, ours as a defect with its traceback."""
        if isinstance(error, NibbleError):
            _log.warning("%s", error)
            self.window.notice.show_notice(error.message, error.hint)
            return
        detail = "".join(traceback.format_exception(kind, error, where))
        _log.error("defect\n%s", detail)
        report = self.models.support.report(f"Something went wrong inside the window: {kind.__name__}.", detail)
        what_now = REPORT_WRITTEN if report else "If it comes back, report it with the details."
        hint = f"Your conversations are stored. {what_now}"
        self.window.notice.show_notice("Something went wrong inside Nibble.", hint, detail)

    def _texts(self) -> list[str]:
        """What was written in the open chat, which no crash report may show."""
        return [*(message.message.text for message in self.models.session.messages), self.window.composer.text]


def _entries() -> tuple[tuple[CatalogueEntry, ...], str]:
    """Return the catalogue, or none of it and why: models on this machine are there without it."""
    try:
        return catalogue(), ""
    except NibbleError as error:
        return (), str(error)


def main(argv: Sequence[str], model: Path | None = None) -> int:
    """Run the window until it is closed, with the folder `model` opened in it; return the exit code."""
    application = QApplication(list(argv))
    use_one_font(application)
    application.setApplicationName("Nibble")
    application.setApplicationVersion(__version__)
    if not is_mac_app():  # it would take the place of the icon in the Dock, which macOS shapes
        application.setWindowIcon(QIcon(str(icon_path())))
    application.setQuitOnLastWindowClosed(False)
    try:
        paths = default_paths()
        lock = InstanceLock(paths.lock_file)
        start_logging(paths, "nibble")
        program = Program(paths, engine_command("child"), starter_model_path())
    except NibbleError as error:
        # The one dialog that blocks: there is no window and no loop yet.
        QMessageBox.critical(None, "Nibble cannot start", str(error))
        return 1
    quit_filter = QuitFilter()
    application.installEventFilter(quit_filter)
    sys.excepthook = program.report
    loop = QEventLoop(application)
    asyncio.set_event_loop(loop)
    with _faults_noted(paths.fault_file), loop:
        loop.run_until_complete(run(application, program, model))
    lock.release()
    return 0


@contextmanager
def _faults_noted(path: Path) -> Iterator[None]:
    """Have Python note in `path` how this process breaks; the window opens where that cannot be made, too."""
    try:
        file = path.open("w", encoding="utf-8")  # open to the end: it is written as the process breaks
    except OSError as error:
        _log.warning("%s cannot be written: %s", path, error)
        yield
        return
    with file:
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()


async def run(application: QApplication, program: Program, model: Path | None = None) -> None:
    """Show the window, wait until it is closed, and end in order."""
    closed = asyncio.get_running_loop().create_future()
    application.lastWindowClosed.connect(lambda: None if closed.done() else closed.set_result(None))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, application.closeAllWindows)
    program.start(model)
    await closed
    await program.close()
