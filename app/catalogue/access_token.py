"""The Hugging Face access token: kept in the system's keychain through keyring, and nowhere else.

keyring finds the keychain of macOS, and on Linux the Secret Service or KWallet. Where there is none, as on a bare
Linux, the token is kept in memory until the program ends. Every call may take as long as a person takes to unlock a
keychain: not for the window's thread.
"""

import re
import threading

from app.errors import NibbleError

SERVICE = "Nibble"
ACCOUNT = "Hugging Face access token"
_TOKEN = re.compile(r"[A-Za-z0-9_.~+/=-]{1,500}")


def is_token(text: str) -> bool:
    """Return whether `text` can be a token: what may stand in an HTTP header, without spaces."""
    return bool(_TOKEN.fullmatch(text))


class AccessToken:
    """The one token of this person. May be used on any thread; calls wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_read = False
        self._token: str | None = None

    def has_keychain(self) -> bool:
        """Return whether the token outlives the program."""
        import keyring
        from keyring.backends.fail import Keyring as NoKeychain
        from keyring.backends.null import Keyring as Forgetful

        return not isinstance(keyring.get_keyring(), NoKeychain | Forgetful)

    def read(self) -> str | None:
        """Return the token; the keychain is asked once. Raises NibbleError where it is locked or refuses."""
        with self._lock:
            if not self._is_read:
                self._token = self._from_keychain() if self.has_keychain() else None
                self._is_read = True
            return self._token

    def save(self, token: str) -> None:
        """Keep `token` in place of the one before. Raises NibbleError; then it is kept until the program ends."""
        token = token.strip()
        if not is_token(token):
            raise NibbleError(
                "This is no access token.", "A token is one word that begins with hf_; copy it without anything else."
            )
        with self._lock:
            self._token, self._is_read = token, True
            if self.has_keychain():
                self._to_keychain(token)

    def remove(self) -> None:
        """Forget the token. Raises NibbleError where the keychain keeps it."""
        with self._lock:
            self._token, self._is_read = None, True
            if self.has_keychain() and self._from_keychain() is not None:
                self._to_keychain(None)

    def _from_keychain(self) -> str | None:
        import keyring
        from keyring.errors import KeyringError

        try:
            return keyring.get_password(SERVICE, ACCOUNT)
        except KeyringError as error:
            raise _refused("read", error) from error

    def _to_keychain(self, token: str | None) -> None:
        import keyring
        from keyring.errors import KeyringError

        try:
            if token is None:
                keyring.delete_password(SERVICE, ACCOUNT)
            else:
                keyring.set_password(SERVICE, ACCOUNT, token)
        except KeyringError as error:
            raise _refused("changed", error) from error


def _refused(what: str, error: Exception) -> NibbleError:
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    return NibbleError(
        f"The access token in the keychain could not be {what}: {reason}.",
        "Unlock the keychain and allow Nibble to use it, then try again.",
    )
