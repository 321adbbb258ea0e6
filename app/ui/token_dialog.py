"""The Hugging Face access token: a place to paste, replace and remove it."""

from PySide6.QtCore import QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLineEdit, QVBoxLayout, QWidget

from app.ui.theme import GAP, TIGHT, WIDE, SubtleLabel, TextLabel
from app.viewmodels.hub_token import HubToken

TOKENS_PAGE = "https://huggingface.co/settings/tokens"
_WHY = (
    "Some models are given only to people who accepted their terms on huggingface.co. "
    "For those the hub wants an access token of your account."
)
_WHY_ONE = (
    "{repo} is given only to people who accepted its terms at huggingface.co/{repo}. "
    "Once you have, the hub wants an access token of your account."
)
_WHERE = "Make one at huggingface.co/settings/tokens; the right to read is enough. "
_KEPT = _WHERE + "It is kept in the system’s keychain and sent to the hub alone."
_NOT_KEPT = _WHERE + "This system has no keychain that Nibble can use, so it is forgotten when you quit."


class TokenDialog(QDialog):
    """Shows whether there is a token, never the token itself. With `repo` it says which model wants one."""

    saved = Signal()
    """A token was given and is kept."""

    def __init__(self, token: HubToken, repo: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("token_dialog")
        self.setAccessibleName("Hugging Face access token")
        self.setWindowTitle("Hugging Face Access Token")
        self._token = token
        self._is_saving = False
        self._failure = ""
        self._build(repo)
        token.changed.connect(self._show_state)
        token.failed.connect(self._show_failure)
        self._show_state()
        token.look()

    def _build(self, repo: str) -> None:
        why = TextLabel(_WHY_ONE.format(repo=repo) if repo else _WHY)
        why.setWordWrap(True)
        self._where = SubtleLabel()
        self._where.setObjectName("token_help")
        self._state = TextLabel()
        self._state.setObjectName("token_state")
        self._state.setWordWrap(True)
        self._line = QLineEdit()
        self._line.setObjectName("token_line")
        self._line.setAccessibleName("Access token")
        self._line.setEchoMode(QLineEdit.EchoMode.Password)
        self._line.setPlaceholderText("hf_…")
        self._line.textChanged.connect(self._show_state)
        column = QVBoxLayout(self)
        column.setContentsMargins(WIDE, WIDE, WIDE, WIDE)
        column.setSpacing(GAP + TIGHT)
        for part in (why, self._line, self._state, self._where):
            column.addWidget(part)
        column.addWidget(self._buttons())
        self.setMinimumWidth(480)

    def _buttons(self) -> QDialogButtonBox:
        buttons = QDialogButtonBox()
        buttons.setObjectName("token_buttons")
        self._save = buttons.addButton("Save", QDialogButtonBox.ButtonRole.AcceptRole)
        self._remove = buttons.addButton("Remove", QDialogButtonBox.ButtonRole.DestructiveRole)
        self._page = buttons.addButton("Get a Token…", QDialogButtonBox.ButtonRole.HelpRole)
        close = buttons.addButton(QDialogButtonBox.StandardButton.Close)
        for button, name, said in (
            (self._save, "token_save", "Save the token"),
            (self._remove, "token_remove", "Remove the token"),
            (self._page, "token_page", "Open the page with your tokens in the browser"),
            (close, "token_close", "Close"),
        ):
            button.setObjectName(name)
            button.setAccessibleName(said)
            button.setAutoDefault(False)
        self._save.setDefault(True)
        self._save.clicked.connect(self._keep)
        self._remove.clicked.connect(self._forget)
        self._page.clicked.connect(lambda: QDesktopServices.openUrl(QUrl(TOKENS_PAGE)))
        buttons.rejected.connect(self.reject)
        return buttons

    def _keep(self) -> None:
        self._failure = ""
        self._is_saving = True
        self._token.save(self._line.text())

    def _forget(self) -> None:
        self._failure = ""
        self._token.remove()

    def _show_state(self) -> None:
        self._show_texts()
        # Texts differ in their lines, and a dialog does not grow with them by itself.
        self.resize(self.width(), max(self.height(), self.heightForWidth(self.width())))

    def _show_texts(self) -> None:
        token = self._token
        if self._is_saving and token.is_there and not token.is_busy:
            self._is_saving = False
            self._line.clear()
            self.saved.emit()
            self.accept()
            return
        self._where.setText(_NOT_KEPT if token.has_keychain is False else _KEPT)
        self._save.setText("Replace" if token.is_there else "Save")
        self._save.setEnabled(bool(self._line.text().strip()) and not token.is_busy)
        self._remove.setEnabled(bool(token.is_there) and not token.is_busy)
        if token.is_busy:
            self._state.setText("Asking the keychain…")
        elif self._failure:
            self._state.setText(self._failure)
        elif token.is_there:
            self._state.setText("There is a token.")
        else:
            self._state.setText("There is no token yet.")

    def _show_failure(self, message: str, hint: str) -> None:
        self._is_saving = False
        self._failure = f"{message} {hint}".strip()
