"""The commands that open a dialog or another window."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QApplication, QDialog, QMainWindow, QWidget

from app import __version__
from app.chat.figures import ReplyFigures
from app.chat.options import ChatOptions
from app.errors import NibbleError
from app.settings.schema import Settings, with_fields_of
from app.store.store import Conversation, ListedConversation
from app.ui import prompts
from app.ui.about_dialog import AboutDialog
from app.ui.compare_window import CompareWindow
from app.ui.composer import Composer
from app.ui.controls import NoticeBar
from app.ui.front_window import bring_to_front
from app.ui.menus import Actions
from app.ui.models_window import ModelsWindow
from app.ui.options_dialog import OptionsDialog
from app.ui.quality_window import QualityWindow
from app.ui.settings_dialog import SettingsDialog
from app.ui.stats_window import StatsWindow
from app.ui.token_dialog import TokenDialog
from app.ui.window_places import WindowPlaces
from app.viewmodels.compare_table import CompareResult
from app.viewmodels.models import Models
from app.viewmodels.open_model import is_meant_as_model
from app.viewmodels.updates import NewVersion

LINK_SCHEMES = ("http", "https", "mailto")


class Commands(QObject):
    """Belongs to one window. Nothing here waits for an answer: dialogs call back."""

    def __init__(
        self,
        window: QMainWindow,
        models: Models,
        composer: Composer,
        notice: NoticeBar,
        places: WindowPlaces,
    ) -> None:
        super().__init__(window)
        self._window = window
        self._models = models
        self._composer = composer
        self._notice = notice
        self._places = places
        self._beside: list[QDialog] = []
        self._updates_asked = False
        models.updates.newer_found.connect(self._show_newer)
        models.updates.is_newest.connect(self._show_newest)
        models.updates.failed.connect(self._show_update_failure)

    def open_model(self) -> None:
        """Ask for a model folder and open it."""
        prompts.ask_folder(self._window, self._models.session.load_model)

    def get_model(self) -> None:
        """Lead from the starter to a model that gives real answers: to the list of models."""
        self.show_models()

    def show_models(self) -> None:
        """Open the list of models, or bring it to the front."""
        if self._bring(ModelsWindow):
            return
        window = ModelsWindow(self._models.catalogue, self._window)
        window.open_asked.connect(self._models.session.load_model)
        window.open_asked.connect(self._window.activateWindow)
        window.folder_asked.connect(self.open_model)
        self._show(window)

    def offer_anyway(self, path: str, message: str, hint: str) -> None:
        """Say why a model was not opened, and offer to open it all the same, for this time."""

        def load() -> None:
            self._models.session.stop()
            self._models.model.load(path, anyway=True)

        prompts.confirm(self._window, "fit_dialog", message, hint, "Open Anyway", load)

    def take_files(self, paths: list[Path]) -> None:
        """Open the model that was dropped or pasted, and attach all other files."""
        models = [path for path in paths if is_meant_as_model(path)]
        if len(models) > 1:
            self._notice.show_notice("Nibble opens one model at a time.", "Drop a single folder.")
        elif models:
            self._models.session.load_model(str(models[0]))
        if files := [path for path in paths if path not in models]:
            self._models.attachments.add(files)

    def export(self) -> None:
        """Ask where to, then write the session's figures."""
        self._ask_export(self._window, None, self._notice.show_done, self._notice.show_notice)

    def rename(self, conversation_id: int) -> None:
        """Ask for a conversation's new title."""
        session = self._models.session
        if (conversation := self._conversation(conversation_id)) is not None:
            prompts.ask_title(self._window, conversation.title, lambda new: session.rename(conversation_id, new))

    def delete(self, conversation_id: int) -> None:
        """Delete a conversation; for some seconds a notice offers to undo it."""
        if (conversation := self._conversation(conversation_id)) is not None:
            self._models.deletions.delete(conversation.id, conversation.title)

    def pin(self, conversation_id: int) -> None:
        """Pin a conversation, or unpin one that is pinned."""
        if (conversation := self._conversation(conversation_id)) is not None:
            self._models.session.set_pinned(conversation_id, not conversation.is_pinned)

    def rename_open(self) -> None:
        """Ask for the open conversation's new title."""
        if (conversation := self._models.session.conversation) is not None:
            self.rename(conversation.id)

    def delete_open(self) -> None:
        """Delete the open conversation."""
        if (conversation := self._models.session.conversation) is not None:
            self.delete(conversation.id)

    def pin_open(self) -> None:
        """Pin or unpin the open conversation."""
        if (conversation := self._models.session.conversation) is not None:
            self.pin(conversation.id)

    def attach(self) -> None:
        """Ask for text files to go with the next message."""
        prompts.ask_attachments(self._window, self._models.attachments.add)

    def copy_chat(self) -> None:
        """Copy the open conversation as markdown."""
        QGuiApplication.clipboard().setText(self._models.session.markdown)
        self._notice.show_done("The chat was copied as Markdown.")

    def show_settings(self) -> None:
        """Open the settings, or bring them to the front."""
        if self._bring(SettingsDialog):
            return
        dialog = SettingsDialog(self._models.settings.settings, self._window)
        dialog.applied.connect(self._apply)
        self._models.settings.changed.connect(dialog.show_settings)
        self._show(dialog)

    def raise_budget(self) -> None:
        """Open the settings at the memory budget."""
        self.show_settings()
        for dialog in self._beside:
            if isinstance(dialog, SettingsDialog):
                dialog.go_to("memory_budget_gb")

    def shorten(self) -> None:
        """Ask whether the last message goes into a new chat, or is to be edited."""
        session = self._models.session
        last = session.last_user_message
        if last is None:
            return

        def start_over() -> None:
            session.new_chat()
            self._composer.write(last.message.text)

        prompts.ask_shorten(self._window, start_over, lambda: self._composer.edit_message(last.id, last.message.text))

    def show_options(self) -> None:
        """Open the settings of the open chat."""
        session = self._models.session
        dialog = OptionsDialog(session.title, session.options, self._window)
        dialog.changed.connect(self._set_options)
        self._show(dialog, modal=True)

    def compare(self) -> None:
        """Open a comparison of the draft, or of the last message sent."""
        session, facts = self._models.session, self._models.model.facts
        if facts is None:
            return
        last = session.last_user_message
        draft = self._composer.text.strip()
        prompt = draft or (last.message.text if last is not None else "")
        window = CompareWindow(self._models.engine, facts.name, session.options, prompt, self._window)
        conversation_id = None if session.conversation is None else session.conversation.id
        window.compared.connect(lambda result: self._keep_comparison(window, result, conversation_id))
        window.export_requested.connect(
            lambda replies: self._ask_export(window, replies, window.show_note, window.show_note)
        )
        kept = None if draft else self._models.comparisons.latest(conversation_id)
        if kept is not None:
            window.show_kept(kept)
        self._show(window)

    def measure_quality(self) -> None:
        """Open the measuring of the model that is open, or bring it to the front."""
        facts = self._models.model.facts
        if facts is None:
            return
        if self._bring(QualityWindow):
            return
        self._show(QualityWindow(self._models.engine, facts, self._models.session.options.group_size, self._window))

    def show_stats(self) -> None:
        """Open the session's figures, or bring them to the front."""
        if self._bring(StatsWindow):
            return
        window = StatsWindow(self._models.stats, self._window)
        window.chat_asked.connect(self._window.activateWindow)
        window.chat_asked.connect(self._composer.edit.setFocus)
        self._show(window)

    def show_token(self, repo: str = "") -> None:
        """Ask for the Hugging Face access token; once it is given, the download of `repo` goes on."""
        if self._bring(TokenDialog):
            return
        dialog = TokenDialog(self._models.token, repo, self._window)
        if repo:
            dialog.saved.connect(lambda: self._models.downloads.start(repo))
        self._show(dialog)

    def show_about(self) -> None:
        """Open the versions, or bring them to the front."""
        if self._bring(AboutDialog):
            return
        self._show(AboutDialog(self._models.engine.machine, self._window))

    def show_logs(self) -> None:
        """Open the folder with logs and crash reports."""
        _open_url(QUrl.fromLocalFile(str(self._models.support.logs)))

    def show_crash_report(self) -> None:
        """Open the newest crash report, in whatever shows text files."""
        if (report := self._models.support.last_report) is not None:
            _open_url(QUrl.fromLocalFile(str(report)))

    def check_for_updates(self, *, asked: bool = True) -> None:
        """Ask for a newer version; where nobody asked, only that there is one is shown."""
        self._updates_asked = self._updates_asked or asked
        self._models.updates.check()

    def _show_newer(self, new: NewVersion) -> None:
        self._updates_asked = False
        prompts.confirm_update(self._window, new.version, lambda: _open_url(QUrl(new.page)))

    def _show_newest(self) -> None:
        if self._updates_asked:
            self._notice.show_done(f"Nibble {__version__} is the newest version.")
        self._updates_asked = False

    def _show_update_failure(self, message: str, hint: str) -> None:
        if self._updates_asked:
            self._notice.show_notice(message, hint)
        self._updates_asked = False

    def show_details(self, detail: str) -> None:
        """Open the technical details of a failure."""
        prompts.show_details(self._window, detail)

    def follow_link(self, url: QUrl) -> None:
        """Open a link of a message in the browser, if it is one for a browser and the person agrees."""
        if url.scheme() in LINK_SCHEMES:
            prompts.confirm_link(self._window, url, lambda: _open_url(url))
        else:
            self._notice.show_notice("This link is not opened.", "Nibble opens web and mail addresses only.")

    def connect_edits(self, actions: Actions) -> None:
        """Let the Edit menu act on whatever field has the focus."""
        for action, method in (
            (actions.undo, "undo"),
            (actions.redo, "redo"),
            (actions.cut, "cut"),
            (actions.copy, "copy"),
            (actions.paste, "paste"),
            (actions.select_all, "selectAll"),
        ):
            action.triggered.connect(lambda _=False, m=method: self.edit(m))

    def edit(self, method: str) -> None:
        """Have the widget with the focus undo, redo, cut, copy, paste or select all."""
        call = getattr(QApplication.focusWidget(), method, None)
        if callable(call):
            call()

    def close_windows(self) -> None:
        """Close what stands beside the window."""
        for dialog in list(self._beside):
            dialog.close()

    def _bring(self, kind: type[QDialog]) -> bool:
        """Bring the window of this kind to the front, if there is one."""
        window = next((dialog for dialog in self._beside if isinstance(dialog, kind)), None)
        if window is not None:
            bring_to_front(window)
        return window is not None

    def _show(self, dialog: QDialog, *, modal: bool = False) -> None:
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._beside.append(dialog)
        if dialog.isWindow() and not modal:
            self._places.keep(dialog)
        dialog.finished.connect(lambda: self._beside.remove(dialog))
        if modal:
            dialog.open()
        else:
            dialog.show()

    def _apply(self, settings: Settings) -> None:
        # The dialog holds the settings as they were when it opened; only what it edits is taken from it.
        now = self._models.settings.settings
        self._models.settings.replace(with_fields_of(now, settings))

    def _set_options(self, options: ChatOptions) -> None:
        self._models.session.set_options(options)

    def _keep_comparison(self, window: CompareWindow, result: CompareResult, conversation_id: int | None) -> None:
        try:
            self._models.comparisons.keep(result, window.prompt, window.conditions, conversation_id)
        except NibbleError as error:
            window.show_note(error.message, error.hint)

    def _ask_export(
        self,
        parent: QWidget,
        replies: Sequence[ReplyFigures] | None,
        done: Callable[[str], None],
        failed: Callable[[str, str], None],
    ) -> None:
        def export(path: Path) -> None:
            try:
                self._models.stats.export(path, replies)
            except NibbleError as error:
                failed(error.message, error.hint)
            else:
                done(f"The figures were written to {path}.")

        prompts.ask_export_path(parent, "Export Session Stats", "nibble-session", export, prompts.SESSION_KINDS)

    def _conversation(self, conversation_id: int) -> Conversation | ListedConversation | None:
        """Return a conversation that is open or listed."""
        opened = self._models.session.conversation
        if opened is not None and opened.id == conversation_id:
            return opened
        row = self._models.conversations.row_of(conversation_id)
        return None if row is None else self._models.conversations.conversation(row)


def _open_url(url: QUrl) -> None:
    QDesktopServices.openUrl(url)
