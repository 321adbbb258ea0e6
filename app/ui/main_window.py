"""The window: conversations at the left, the open one in the middle, its live figures at the right."""

import sys
from collections.abc import Callable
from dataclasses import replace

from PySide6.QtCore import QEvent, QSettings, Qt
from PySide6.QtGui import QAction, QCloseEvent, QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import QMainWindow, QScrollArea, QSplitter, QStackedWidget, QVBoxLayout

from app.chat.options import CacheMode
from app.ui.action_states import STOPPABLE, chat_actions, enable_actions, reason_not_to_ask, reason_not_to_turn
from app.ui.announcements import announce, announce_state
from app.ui.chat_find import ChatFind
from app.ui.commands import Commands
from app.ui.composer import Composer
from app.ui.controls import NoticeBar, Page
from app.ui.empty_state import EmptyState
from app.ui.file_drop import FileDrop
from app.ui.find_bar import FindBar
from app.ui.front_window import bring_to_front, connect_front, is_another_in_front, where_in_reach
from app.ui.header import Header
from app.ui.live_panel import LivePanel
from app.ui.look import Look
from app.ui.menus import build_menus
from app.ui.quiet_note import ChatModelNote, StarterNote
from app.ui.scroll_bar import quieten
from app.ui.sidebar import Sidebar
from app.ui.theme import GAP, TIGHT, Hairline
from app.ui.transcript import Transcript, in_column
from app.ui.window_places import WindowPlaces
from app.viewmodels.models import Models
from app.viewmodels.outlook_table import outlook_table
from app.viewmodels.reply import ChatState

MINIMUM_SIZE = (760, 480)
FIRST_SIZE = (1180, 760)


class MainWindow(QMainWindow):
    """Shows the models and passes on what the person asks for; decides nothing itself."""

    def __init__(self, models: Models, geometry: QSettings) -> None:
        super().__init__()
        self.setObjectName("main_window")
        self.setMinimumSize(*MINIMUM_SIZE)
        self._models = models
        self._session = models.session
        self._geometry = geometry
        self._load_failure = ""
        self.sidebar = Sidebar(models.conversations)
        self.header = Header(models.model, models.settings)
        self.starter_note = StarterNote(models.model)
        self.model_note = ChatModelNote(models.session, models.model)
        self.transcript = Transcript()
        self.find_bar = FindBar()
        self.chat_find = ChatFind(self.find_bar, self.transcript)
        self.empty_state = EmptyState()
        self.notice = NoticeBar()
        self.composer = Composer()
        self.panel = LivePanel()
        for area in self.panel.findChildren(QScrollArea):
            quieten(area)
        self.actions_ = build_menus(self)
        self.look = Look(models.settings, self)
        self.commands = Commands(self, models, self.composer, self.notice, WindowPlaces(geometry, self))
        self._lay_out()
        self._connect_session()
        self._connect_controls()
        self._connect_actions()
        self._show_all()
        self._restore_geometry()
        self.composer.edit.setFocus()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Remember size and place; close what stands beside the window."""
        self._geometry.setValue("window", self.saveGeometry())
        self._geometry.setValue("splitter", self._splitter.saveState())
        self.commands.close_windows()
        super().closeEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """Group the conversations anew when the person comes back: it may be another day."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ActivationChange and self.isActiveWindow():
            self._models.conversations.refresh()

    # Layout

    def _lay_out(self) -> None:
        self._pages = QStackedWidget()
        self._pages.setObjectName("chat_pages")
        self._pages.addWidget(self.empty_state)
        self._pages.addWidget(self.transcript)
        middle = Page()
        middle.setObjectName("chat")
        middle.setMinimumWidth(330)
        column = QVBoxLayout(middle)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.header)
        column.addWidget(Hairline())
        column.addSpacing(GAP)
        for bar in (self.starter_note, self.model_note, self.find_bar):
            column.addLayout(in_column(bar, GAP))
        column.addWidget(self._pages, 1)
        column.addLayout(in_column(self.notice))
        column.addSpacing(TIGHT)
        column.addWidget(self.composer)
        self._splitter = QSplitter(Qt.Orientation.Horizontal)
        self._splitter.setObjectName("splitter")
        self._splitter.setChildrenCollapsible(False)
        self._splitter.setHandleWidth(1)
        for part, stretch in ((self.sidebar, 0), (middle, 1), (self.panel, 0)):
            self._splitter.addWidget(part)
            self._splitter.setStretchFactor(self._splitter.count() - 1, stretch)
        self.sidebar.setMinimumWidth(170)
        self._splitter.setSizes([230, FIRST_SIZE[0] - 230 - 290, 290])
        self.setCentralWidget(self._splitter)

    def _restore_geometry(self) -> None:
        self.resize(*FIRST_SIZE)
        if (window := self._geometry.value("window")) is not None:
            self.restoreGeometry(window)
        if (splitter := self._geometry.value("splitter")) is not None:
            self._splitter.restoreState(splitter)

    # Connections

    def _connect_session(self) -> None:
        session = self._session
        session.conversation_changed.connect(self._show_conversation)
        session.conversation_changed.connect(self._show_outlook)
        session.messages_reset.connect(self._show_messages)
        session.message_added.connect(self.transcript.add_message)
        session.message_added.connect(self._show_page)
        session.message_changed.connect(self.transcript.change_message)
        session.state_changed.connect(self._show_state)
        session.activity_changed.connect(self.composer.set_activity)
        session.panel_changed.connect(self.panel.show_state)
        self._models.course.changed.connect(self.panel.show_course)
        session.failed.connect(self._show_failure)
        self._models.memory.changed.connect(self._show_memory_note)
        self._models.engine.silence_changed.connect(self._show_silence)
        session.reply_finished.connect(self._models.stats.add)
        self._models.stats.changed.connect(self._enable_actions)
        self._models.stats.failed.connect(self.notice.show_notice)
        self._models.model.changed.connect(self._enable_actions)
        self._models.model.changed.connect(self._show_outlook)
        self._models.model.changed.connect(self._show_empty_state)
        self._models.model.failed.connect(self._show_load_failure)
        self._models.model.refused.connect(self.commands.offer_anyway)
        self._models.model.opened.connect(self._forget_load_failure)
        self._models.settings.changed.connect(self._show_panel)
        attachments = self._models.attachments
        attachments.changed.connect(self._show_attachments)
        attachments.refused.connect(self.notice.show_notice)
        self.composer.edit.files_given.connect(self.commands.take_files)
        self.composer.attachments.removed.connect(attachments.remove)
        FileDrop(self).dropped.connect(self.commands.take_files)
        self._models.deletions.offered.connect(self._offer_undo)
        self._models.deletions.ended.connect(self._withdraw_undo)
        self._models.settings.changed.connect(self._enable_actions)
        self._models.support.changed.connect(self._enable_actions)

    def _connect_controls(self) -> None:
        session, commands = self._session, self.commands
        self.sidebar.new_chat_asked.connect(self._new_chat)
        self.sidebar.opened.connect(self._open)
        self.sidebar.rename_asked.connect(commands.rename)
        self.sidebar.delete_asked.connect(commands.delete)
        self.sidebar.pin_asked.connect(commands.pin)
        self.header.picker.model_chosen.connect(session.load_model)
        self.header.picker.folder_asked.connect(commands.open_model)
        self.header.cache.chosen.connect(self._set_cache_mode)
        self.header.options_asked.connect(commands.show_options)
        self.header.panel_toggle.clicked.connect(self._set_panel)
        self.header.picker.model_wanted.connect(commands.get_model)
        self.starter_note.link_followed.connect(commands.get_model)
        self.model_note.model_asked.connect(session.load_model)
        self.empty_state.model_wanted.connect(commands.get_model)
        self.empty_state.folder_asked.connect(commands.open_model)
        self.empty_state.restart_asked.connect(self._restart)
        self.empty_state.suggestion_chosen.connect(self.composer.write)
        self.transcript.link_activated.connect(commands.follow_link)
        self.transcript.regenerate_asked.connect(session.regenerate)
        self.transcript.edit_asked.connect(self._edit)
        self.transcript.version_chosen.connect(self._open_version)
        note = self.transcript.memory_note
        note.shorten_asked.connect(commands.shorten)
        note.int4_asked.connect(self._models.memory.switch_to_int4)
        note.budget_asked.connect(commands.raise_budget)
        note.again_asked.connect(session.regenerate)
        self.notice.restart_asked.connect(self._restart)
        self.notice.undo_asked.connect(self._models.deletions.undo)
        self.notice.details_asked.connect(commands.show_details)
        self.composer.sent.connect(self._send)
        self.composer.stop_asked.connect(session.stop)
        QShortcut(QKeySequence(Qt.Key.Key_Escape), self).activated.connect(self._escape)

    def _connect_actions(self) -> None:
        actions, commands, session = self.actions_, self.commands, self._session
        pairs: list[tuple[QAction, Callable[[], object]]] = [
            (actions.new_chat, self._new_chat),
            (actions.open_model, commands.open_model),
            (actions.models, commands.show_models),
            (actions.token, commands.show_token),
            (actions.export, commands.export),
            (actions.quit, self.close),
            (actions.find, self.chat_find.open),
            (actions.find_next, lambda: self.chat_find.move(1)),
            (actions.find_previous, lambda: self.chat_find.move(-1)),
            (actions.search, self.sidebar.search.setFocus),
            (actions.settings, commands.show_settings),
            (actions.send, self.composer.send),
            (actions.stop, session.stop),
            (actions.regenerate, session.regenerate),
            (actions.edit_last, self._edit_last),
            (actions.restart, self._restart),
            (actions.options, commands.show_options),
            (actions.compare, commands.compare),
            (actions.quality, commands.measure_quality),
            (actions.attach, commands.attach),
            (actions.copy_chat, commands.copy_chat),
            (actions.pin, commands.pin_open),
            (actions.rename, commands.rename_open),
            (actions.delete, commands.delete_open),
            (actions.undo_delete, self._models.deletions.undo),
            (actions.bigger, lambda: self._models.settings.zoom(1)),
            (actions.smaller, lambda: self._models.settings.zoom(-1)),
            (actions.usual_size, lambda: self._models.settings.zoom(0)),
            (actions.logs, commands.show_logs),
            (actions.crash_report, commands.show_crash_report),
            (actions.updates, commands.check_for_updates),
            (actions.about, commands.show_about),
            (actions.stats, commands.show_stats),
        ]
        of_chat = chat_actions(actions)
        for action, call in pairs:
            made = where_in_reach(self, call) if action in of_chat else call
            action.triggered.connect(lambda _=False, c=made: c())
        connect_front(self, actions)
        commands.connect_edits(actions)
        actions.panel.triggered.connect(self._set_panel)
        self.composer.edit.textChanged.connect(self._enable_actions)
        if isinstance(app := QGuiApplication.instance(), QGuiApplication):
            app.focusWindowChanged.connect(self._enable_actions)

    # What the person does

    def _new_chat(self) -> None:
        self._session.new_chat()
        if is_another_in_front(self) or self.isMinimized():  # a Mac's menu bar is there all the same
            bring_to_front(self)
        self.composer.edit.setFocus()

    def _open(self, conversation_id: int) -> None:
        self._session.open(conversation_id)
        self.composer.edit.setFocus()

    def _send(self, text: str, edited_id: int | None) -> None:
        self.notice.hide()
        attachments, session = self._models.attachments, self._session
        message = attachments.message(text)
        if session.send(message) if edited_id is None else session.edit(edited_id, message):
            attachments.clear()
        elif edited_id is None:
            self.composer.write(text)
        else:
            self.composer.edit_message(edited_id, text)

    def _edit_last(self) -> None:
        if (last := self._session.last_user_message) is not None:
            self._edit(last.id)

    def _edit(self, message_id: int) -> None:
        message = next((m for m in self._session.messages if m.id == message_id), None)
        if message is not None and self._session.state is ChatState.IDLE:
            self.composer.edit_message(message_id, message.message.text)

    def _open_version(self, message_id: int) -> None:
        if self._session.open_version(message_id):
            self.transcript.reveal(message_id)

    def _escape(self) -> None:
        if self.sidebar.search.hasFocus():
            self.sidebar.search.clear()
            self.composer.edit.setFocus()
        elif self.chat_find.takes_escape or (self.chat_find.is_open and not self.actions_.stop.isEnabled()):
            self.chat_find.close()
            self.composer.edit.setFocus()
        else:
            self.composer.escape()

    def _set_cache_mode(self, mode: CacheMode) -> None:
        self._session.set_options(replace(self._session.options, cache_mode=mode))

    def _set_panel(self, shown: bool) -> None:
        self._models.settings.replace(replace(self._models.settings.settings, show_panel=shown))

    def _restart(self) -> None:
        self.notice.hide()
        self._models.model.restart()

    # What is shown

    def _show_all(self) -> None:
        self._show_conversation()
        self._show_messages()
        self._show_state(self._session.state)
        self._show_panel()
        self._show_outlook()
        self.panel.show_state(self._session.panel)
        self.panel.show_course(self._models.course.course)
        self.composer.set_activity(self._session.activity)

    def _show_conversation(self) -> None:
        conversation = self._session.conversation
        self._models.conversations.refresh()
        self.sidebar.show_open(None if conversation is None else conversation.id)
        self.header.show_options(self._session.options)
        self.setWindowTitle(window_title(self._session.title))
        self._enable_actions()

    def _show_messages(self) -> None:
        self.composer.leave_editing()
        self.transcript.show_messages(self._session.messages)
        self._show_page()

    def _show_page(self) -> None:
        self._pages.setCurrentWidget(self.transcript if self._session.messages else self.empty_state)
        self.transcript.show_versions(self._session.versions)
        if not self._session.messages:
            self.chat_find.close()
        self._enable_actions()

    def _show_state(self, state: ChatState) -> None:
        self.composer.set_abilities(can_send=state is ChatState.IDLE, can_stop=state in STOPPABLE)
        self.transcript.show_reasons(reason_not_to_ask(state), reason_not_to_turn(state))
        self._show_empty_state()
        self.notice.set_engine_down(self._can_restart)
        self._enable_actions()
        announce_state(self, state)

    def _show_empty_state(self) -> None:
        self.empty_state.show_state(self._session.state, is_starter=self._models.model.is_starter)

    def _show_panel(self) -> None:
        shown = self._models.settings.settings.show_panel
        self.panel.setVisible(shown)
        self.actions_.panel.setChecked(shown)
        self.header.panel_toggle.setChecked(shown)

    def _show_outlook(self) -> None:
        self.panel.show_outlook(outlook_table(self._models.model.facts, self._session.options.group_size))

    def _show_failure(self, message: str, hint: str, detail: str) -> None:
        self.notice.show_notice(message, hint, detail)

    def _show_memory_note(self) -> None:
        note = self._models.memory.note
        self.transcript.memory_note.show_note(note)
        if note is not None:
            announce(self, f"{note.title} {note.text}")

    def _show_silence(self, is_silent: bool) -> None:
        if is_silent:
            hint = "It may be at something large, or hang. Wait, or restart it: what was written is kept."
            self.notice.show_notice("The engine has said nothing for a while.", hint)
        self.notice.set_engine_down(self._can_restart)
        self._enable_actions()

    @property
    def _can_restart(self) -> bool:
        return self._session.state is ChatState.FAILED or self._models.engine.is_silent

    def _show_attachments(self) -> None:
        self.composer.show_attachments(self._models.attachments.chips)
        self._enable_actions()

    def _offer_undo(self, message: str) -> None:
        self.notice.offer_undo(message)
        self._enable_actions()
        announce(self, message)

    def _withdraw_undo(self) -> None:
        self.notice.withdraw_undo()
        self._enable_actions()

    def _show_load_failure(self, message: str, hint: str, detail: str) -> None:
        self._show_failure(message, hint, detail)
        self._load_failure = message

    def _forget_load_failure(self) -> None:
        if self.notice.message == self._load_failure:
            self.notice.hide()

    def _enable_actions(self) -> None:
        is_behind = is_another_in_front(self)
        enable_actions(self.actions_, self._models, has_message=self.composer.has_message, is_behind=is_behind)


def window_title(chat: str, platform: str = sys.platform) -> str:
    """Return the window's title: on a Mac the menu bar has the program's name, and no title repeats it."""
    return chat if platform == "darwin" else f"{chat} – Nibble"
