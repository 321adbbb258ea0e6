"""The menu bar: every command, its keys and its place."""

import sys
from dataclasses import dataclass

from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QMainWindow, QMenu

Keys = str | QKeySequence.StandardKey


@dataclass(frozen=True, slots=True)
class Actions:
    """The commands that the window connects and enables."""

    new_chat: QAction
    open_model: QAction
    models: QAction
    token: QAction
    export: QAction
    close: QAction
    quit: QAction
    undo: QAction
    redo: QAction
    cut: QAction
    copy: QAction
    paste: QAction
    select_all: QAction
    find: QAction
    find_next: QAction
    find_previous: QAction
    search: QAction
    settings: QAction
    send: QAction
    stop: QAction
    regenerate: QAction
    edit_last: QAction
    restart: QAction
    options: QAction
    compare: QAction
    quality: QAction
    rename: QAction
    attach: QAction
    copy_chat: QAction
    pin: QAction
    delete: QAction
    undo_delete: QAction
    panel: QAction
    stats: QAction
    bigger: QAction
    smaller: QAction
    usual_size: QAction
    logs: QAction
    crash_report: QAction
    updates: QAction
    about: QAction
    minimize: QAction | None = None
    zoom: QAction | None = None
    """These two stand on a Mac alone."""


def build_menus(window: QMainWindow, platform: str = sys.platform) -> Actions:
    """Fill the window's menu bar and return its commands, connected to nothing yet."""
    is_mac = platform == "darwin"
    roles, standard = QAction.MenuRole, QKeySequence.StandardKey

    def menu(name: str, title: str) -> QMenu:
        made = window.menuBar().addMenu(title)
        made.setObjectName(f"menu_{name}")
        return made

    def command(
        owner: QMenu, name: str, text: str, keys: Keys | None = None, role: QAction.MenuRole = roles.NoRole
    ) -> QAction:
        action = owner.addAction(text)
        action.setObjectName(f"action_{name}")
        action.setMenuRole(role)
        if keys is not None:
            action.setShortcut(QKeySequence(keys))
        return action

    file = menu("file", "File")
    new_chat = command(file, "new_chat", "New Chat", standard.New)
    open_model = command(file, "open_model", "Open Model Folder…", standard.Open)
    models = command(file, "models", "Models…", "Ctrl+Shift+O")
    token = command(file, "token", "Hugging Face Access Token…")
    file.addSeparator()
    export = command(file, "export", "Export Session Stats…", "Ctrl+Shift+E")
    file.addSeparator()
    close = command(file, "close", "Close Window", standard.Close)
    quit_ = command(file, "quit", "Quit Nibble", standard.Quit, roles.QuitRole)

    edit = menu("edit", "Edit")
    undo = command(edit, "undo", "Undo", standard.Undo)
    redo = command(edit, "redo", "Redo", standard.Redo)
    edit.addSeparator()
    # By these texts Qt finds the commands that a Mac's own panels know too; with no role they would be dead there.
    cut = command(edit, "cut", "Cut", standard.Cut, roles.TextHeuristicRole)
    copy = command(edit, "copy", "Copy", standard.Copy, roles.TextHeuristicRole)
    paste = command(edit, "paste", "Paste", standard.Paste, roles.TextHeuristicRole)
    select_all = command(edit, "select_all", "Select All", standard.SelectAll, roles.TextHeuristicRole)
    edit.addSeparator()
    find = command(edit, "find", "Find in Chat…", standard.Find)
    find_next = command(edit, "find_next", "Find Next", standard.FindNext)
    find_previous = command(edit, "find_previous", "Find Previous", standard.FindPrevious)
    search = command(edit, "search", "Search Conversations", "Ctrl+Shift+F")
    edit.addSeparator()
    settings = command(edit, "settings", "Settings…", "Ctrl+,", roles.PreferencesRole)

    chat = menu("chat", "Chat")
    chat.setToolTipsVisible(True)  # they say why a command is greyed
    # A Mac's menu bar takes its keys before any window sees them, and Cmd-Return runs comparisons too. The message
    # field sends by it anyway.
    send = command(chat, "send", "Send", None if is_mac else "Ctrl+Return")
    attach = command(chat, "attach", "Attach Text File…", "Ctrl+Shift+A")
    stop = command(chat, "stop", "Stop", "Ctrl+.")
    regenerate = command(chat, "regenerate", "Regenerate", "Ctrl+R")
    edit_last = command(chat, "edit_last", "Edit Last Message", "Ctrl+Alt+E")
    chat.addSeparator()
    options = command(chat, "options", "Chat Settings…", "Ctrl+Shift+,")
    compare = command(chat, "compare", "Compare int4 with fp16…", "Ctrl+Shift+K")
    quality = command(chat, "quality", "Measure Quality of int4…", "Ctrl+Shift+M")
    restart = command(chat, "restart", "Restart Engine")
    chat.addSeparator()
    copy_chat = command(chat, "copy_chat", "Copy Chat as Markdown", "Ctrl+Shift+C")
    pin = command(chat, "pin", "Pin Chat", "Ctrl+Shift+P")
    rename = command(chat, "rename", "Rename Chat…", "Ctrl+Shift+R")
    delete = command(chat, "delete", "Delete Chat", "Ctrl+Shift+Backspace")
    undo_delete = command(chat, "undo_delete", "Undo Delete Chat", "Ctrl+Alt+Z")

    view = menu("view", "View")
    panel = command(view, "panel", "Live Panel", "Ctrl+Alt+I")
    panel.setCheckable(True)
    stats = command(view, "stats", "Session Stats…", "Ctrl+Alt+S")
    view.addSeparator()
    bigger = command(view, "bigger", "Bigger Text")
    bigger.setShortcuts([QKeySequence("Ctrl++"), QKeySequence("Ctrl+=")])  # the sign needs Shift on many keyboards
    smaller = command(view, "smaller", "Smaller Text", "Ctrl+-")
    usual_size = command(view, "usual_size", "Usual Text Size", "Ctrl+0")

    minimize = zoom = None
    if is_mac:
        windows = menu("window", "Window")
        minimize = command(windows, "minimize", "Minimize", "Ctrl+M")
        zoom = command(windows, "zoom", "Zoom")

    help_ = menu("help", "Help")
    logs = command(help_, "logs", "Show Logs")
    crash_report = command(help_, "crash_report", "Show Last Crash Report")
    help_.addSeparator()
    updates = command(help_, "updates", "Check for Updates…", role=roles.ApplicationSpecificRole)
    about = command(help_, "about", "About Nibble", role=roles.AboutRole)
    return Actions(
        new_chat=new_chat,
        open_model=open_model,
        models=models,
        token=token,
        export=export,
        close=close,
        quit=quit_,
        undo=undo,
        redo=redo,
        cut=cut,
        copy=copy,
        paste=paste,
        select_all=select_all,
        find=find,
        find_next=find_next,
        find_previous=find_previous,
        search=search,
        settings=settings,
        send=send,
        stop=stop,
        regenerate=regenerate,
        edit_last=edit_last,
        restart=restart,
        options=options,
        compare=compare,
        quality=quality,
        rename=rename,
        attach=attach,
        copy_chat=copy_chat,
        pin=pin,
        delete=delete,
        undo_delete=undo_delete,
        panel=panel,
        stats=stats,
        bigger=bigger,
        smaller=smaller,
        usual_size=usual_size,
        logs=logs,
        crash_report=crash_report,
        updates=updates,
        about=about,
        minimize=minimize,
        zoom=zoom,
    )
