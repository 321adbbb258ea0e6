"""The settings: how windows look, and what new chats start with. Changes apply at once; nothing is to be confirmed."""

import sys

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QFrame, QScrollArea, QVBoxLayout, QWidget

from app.settings.schema import Settings, checked, is_default, with_fields_of
from app.ui.options_editor import (
    CHAT_FIELDS,
    DISK_FIELDS,
    MEMORY_FIELDS,
    UPDATE_FIELDS,
    WINDOW_FIELDS,
    FieldsEditor,
    Section,
)
from app.ui.scroll_bar import quieten
from app.ui.theme import GAP, WIDE

SECTIONS = (
    Section(WINDOW_FIELDS, "Windows"),
    Section(DISK_FIELDS, "Disk"),
    Section(MEMORY_FIELDS, "Memory"),
    Section(CHAT_FIELDS, "New chats", "New chats start with these. Every chat can have its own."),
    Section(UPDATE_FIELDS, "Updates"),
)


class SettingsDialog(QDialog):
    """Edits the settings and tells every change; the receiver saves."""

    applied = Signal(object)
    """Settings, checked."""

    def __init__(self, settings: Settings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("settings_dialog")
        self.setAccessibleName("Settings")
        self.setWindowTitle("Settings")
        self._settings = settings
        self._editor = FieldsEditor(settings, SECTIONS)
        self._editor.setObjectName("settings_fields")
        self._editor.setAccessibleName("Settings")
        self._editor.changed.connect(self._take)
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(WIDE, WIDE, WIDE, WIDE)
        column.setSpacing(WIDE)
        column.addWidget(self._editor)
        column.addStretch(1)
        self._scroll = scroll = QScrollArea()
        scroll.setObjectName("settings_scroll")
        scroll.setAccessibleName("Settings")
        scroll.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # Tab goes to the controls inside
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        quieten(scroll)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(page)

        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, WIDE)
        whole.setSpacing(GAP)
        whole.addWidget(scroll)
        whole.addWidget(self._buttons())
        self._show_reset()

    def show_settings(self, settings: Settings) -> None:
        """Show settings that were changed elsewhere; `applied` stays silent, and what is being typed is left alone."""
        is_news = with_fields_of(settings, self._settings) != settings
        self._settings = settings
        if is_news:
            self._show_fields()

    def go_to(self, name: str) -> None:
        """Bring a field into sight and give it the keyboard; `name` is the last part of its key."""
        if (control := self.findChild(QWidget, f"option_{name}")) is not None:
            control.setFocus()
            self._scroll.ensureWidgetVisible(control)

    def sizeHint(self) -> QSize:
        """Return a size that shows all fields where the screen has room for them."""
        room = QGuiApplication.primaryScreen().availableSize()
        return QSize(600, min(860, room.height() - 80))

    def _buttons(self) -> QDialogButtonBox:
        buttons = QDialogButtonBox()
        buttons.setObjectName("settings_buttons")
        buttons.setContentsMargins(WIDE, 0, WIDE, 0)
        self._reset = buttons.addButton("Restore Defaults", QDialogButtonBox.ButtonRole.ResetRole)
        self._reset.setObjectName("settings_reset")
        self._reset.setAccessibleName("Restore defaults")
        self._reset.setAutoDefault(False)
        self._reset.clicked.connect(self._restore)
        if sys.platform != "darwin":  # on a Mac the title bar closes a settings window
            close = buttons.addButton(QDialogButtonBox.StandardButton.Close)
            close.setObjectName("settings_close")
            close.setAccessibleName("Close")
            close.setAutoDefault(False)
            buttons.rejected.connect(self.reject)
        return buttons

    def _take(self, settings: Settings) -> None:
        self._settings = checked(with_fields_of(self._settings, settings))
        self._show_reset()
        self.applied.emit(self._settings)

    def _restore(self) -> None:
        self._settings = with_fields_of(self._settings, Settings())
        self._show_fields()
        self.applied.emit(self._settings)

    def _show_fields(self) -> None:
        self._editor.set_settings(self._settings)
        self._show_reset()

    def _show_reset(self) -> None:
        self._reset.setEnabled(not is_default(self._settings))
