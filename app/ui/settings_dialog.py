"""The settings: what new chats start with. Changes apply at once; there is nothing to confirm."""

import sys
from dataclasses import replace

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QFrame, QScrollArea, QVBoxLayout, QWidget

from app.chat.options import ChatOptions
from app.settings.schema import Settings, checked
from app.ui.options_editor import OptionsEditor
from app.ui.theme import GAP, WIDE, SubtleLabel


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
        about = SubtleLabel("New chats start with these. Every chat can have its own; changes apply at once.")
        about.setObjectName("settings_about")
        self._editor = OptionsEditor(settings.chat)
        self._editor.changed.connect(self._take)

        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(WIDE, WIDE, WIDE, WIDE)
        column.setSpacing(WIDE)
        column.addWidget(about)
        column.addWidget(self._editor)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setObjectName("settings_scroll")
        scroll.setAccessibleName("Settings")
        scroll.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # Tab goes to the controls inside
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(page)

        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, WIDE)
        whole.setSpacing(GAP)
        whole.addWidget(scroll)
        whole.addWidget(self._buttons())
        self._show_reset()

    def show_settings(self, settings: Settings) -> None:
        """Show settings that were changed elsewhere; `applied` stays silent."""
        self._settings = settings
        self._editor.set_options(settings.chat)
        self._show_reset()

    def sizeHint(self) -> QSize:
        """Return a size that shows all fields where the screen has room for them."""
        room = QGuiApplication.primaryScreen().availableSize()
        return QSize(600, min(860, room.height() - 80))

    def _buttons(self) -> QDialogButtonBox:
        buttons = QDialogButtonBox()
        buttons.setObjectName("settings_buttons")
        buttons.setContentsMargins(WIDE, 0, WIDE, 0)
        self._reset = buttons.addButton("Reset to Defaults", QDialogButtonBox.ButtonRole.ResetRole)
        self._reset.setObjectName("settings_reset")
        self._reset.setAccessibleName("Reset to defaults")
        self._reset.setAutoDefault(False)
        self._reset.clicked.connect(self._reset_chat)
        if sys.platform != "darwin":  # on a Mac the title bar closes a settings window
            close = buttons.addButton(QDialogButtonBox.StandardButton.Close)
            close.setObjectName("settings_close")
            close.setAccessibleName("Close")
            close.setAutoDefault(False)
            buttons.rejected.connect(self.reject)
        return buttons

    def _take(self, options: ChatOptions) -> None:
        self._settings = checked(replace(self._settings, chat=options))
        self._show_reset()
        self.applied.emit(self._settings)

    def _reset_chat(self) -> None:
        self._editor.set_options(ChatOptions())
        self._take(ChatOptions())

    def _show_reset(self) -> None:
        self._reset.setEnabled(self._settings.chat != ChatOptions())
