import asyncio

import pytest
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QPushButton

from app.catalogue.hub_cache import CachedRepository
from app.catalogue.token_protocol import token_command
from app.ui.token_dialog import TokenDialog
from app.viewmodels.hub_token import HubToken
from tests.catalogue import small_model
from tests.catalogue.local_hub import REPO, Repository


class Opened:
    """The dialog, and what a person does in it."""

    def __init__(self, loop, qtbot, repo: str = "") -> None:
        QApplication.setQuitOnLastWindowClosed(False)  # as in the program: the loop outlives the dialog
        self._loop = loop
        self.token = HubToken(token_command())
        self.dialog = TokenDialog(self.token, repo)
        qtbot.addWidget(self.dialog)
        self.saved: list[bool] = []
        self.dialog.saved.connect(lambda: self.saved.append(True))
        self.dialog.show()
        self.settle()

    def settle(self) -> None:
        async def wait() -> None:
            async with asyncio.timeout(60):
                while self.token.is_busy:
                    await asyncio.sleep(0.005)

        self._loop.run_until_complete(wait())

    def text(self, name: str) -> str:
        return self.dialog.findChild(QLabel, name).text()

    def button(self, name: str) -> QPushButton:
        return self.dialog.findChild(QPushButton, name)

    @property
    def line(self) -> QLineEdit:
        return self.dialog.findChild(QLineEdit, "token_line")

    def save(self, token: str) -> None:
        self.line.setText(token)
        self.button("token_save").click()
        self.settle()


@pytest.fixture
def opened(loop, qtbot, keychain):
    opened = Opened(loop, qtbot)
    yield opened
    opened.settle()


def test_a_token_is_pasted_and_kept(opened, keychain):
    assert opened.text("token_state") == "There is no token yet."
    assert "keychain" in opened.text("token_help")
    assert "huggingface.co/settings/tokens" in opened.text("token_help")
    assert opened.line.echoMode() is QLineEdit.EchoMode.Password
    assert not opened.button("token_save").isEnabled()
    assert not opened.button("token_remove").isEnabled()
    opened.save(" hf_abc ")
    assert keychain.token == "hf_abc"
    assert opened.saved == [True]
    assert not opened.dialog.isVisible()
    assert opened.line.text() == ""


def test_a_token_that_is_there_is_replaced_or_removed_and_never_shown(loop, qtbot, keychain):
    keychain.change(token="hf_old")
    opened = Opened(loop, qtbot)
    assert opened.text("token_state") == "There is a token."
    assert opened.button("token_save").text() == "Replace"
    assert opened.line.text() == ""
    opened.button("token_remove").click()
    opened.settle()
    assert keychain.token is None
    assert opened.text("token_state") == "There is no token yet."
    opened.save("hf_new")
    assert keychain.token == "hf_new"


@pytest.mark.parametrize(("text", "said"), [("two words", "no access token"), ("hf_abc", "the person said no")])
def test_what_cannot_be_kept_is_said_and_stays_to_be_mended(opened, keychain, text, said):
    keychain.change(mood="locked" if text == "hf_abc" else "")
    opened.save(text)
    assert said in opened.text("token_state")
    assert text not in opened.text("token_state")
    assert opened.line.text() == text
    assert opened.saved == []
    assert opened.dialog.isVisible()
    keychain.change(mood="")
    opened.save("hf_good")
    assert opened.saved == [True]


def test_without_a_keychain_it_is_said_that_the_token_is_forgotten(loop, qtbot):
    opened = Opened(loop, qtbot)
    assert "forgotten when you quit" in opened.text("token_help")
    opened.save("hf_abc")
    assert opened.saved == [True]
    assert opened.token.is_there


def test_a_gated_model_opens_the_dialog_and_goes_on_once_there_is_a_token(driver, hub):
    hub.repositories[REPO] = Repository(small_model.files(), gated=True, token="hf_owner", members=("hf_member",))
    downloads = driver.program.models.downloads
    finished = []
    downloads.finished.connect(lambda *what: finished.append(what))
    downloads.start(REPO)
    driver.until(lambda: driver.window.findChild(TokenDialog) is not None)
    dialog = driver.find("token_dialog", TokenDialog)
    assert any(REPO in label.text() for label in dialog.findChildren(QLabel))
    driver.until(lambda: not driver.program.models.token.is_busy)
    driver.find("token_line", QLineEdit).setText("hf_member")
    driver.click("token_save")
    driver.until(lambda: finished)
    assert finished[0][0] == REPO


def test_quitting_in_the_middle_of_a_download_keeps_what_came(driver, hub, loop):
    hub.bytes_per_s = 400_000
    downloads = driver.program.models.downloads
    downloads.start(REPO)
    driver.until(lambda: downloads.state(REPO).bytes_done > 50_000)
    driver.window.close()
    loop.run_until_complete(downloads.close())
    hub.settle()
    assert list((CachedRepository(REPO).folder / "blobs").glob("*.incomplete"))
