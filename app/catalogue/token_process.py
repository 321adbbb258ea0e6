"""The keychain's process, `python -m app --token`: keeps the Hugging Face access token through keyring, nowhere else.

keyring finds the keychain of macOS, and on Linux the Secret Service or KWallet. A bare Linux has none: then nothing is
kept, and the answer says so.
"""

import signal
import sys

import keyring
from keyring.backends.fail import Keyring as NoKeychain
from keyring.backends.null import Keyring as ForgetfulKeychain
from keyring.errors import KeyringError

from app.catalogue.token_protocol import (
    Answer,
    ForgetToken,
    KeepToken,
    ReadToken,
    Request,
    TokenAnswer,
    TokenRefused,
    decode_request,
    encode,
)
from app.chat.lines import ProtocolError
from app.children import claimed_stdout

SERVICE = "Nibble"
ACCOUNT = "Hugging Face access token"


def serve() -> int:
    """Answer the one request on stdin; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to the group; the window answers it
    with claimed_stdout() as stdout:
        try:
            answer = answer_to(decode_request(sys.stdin.readline()))
        except (ProtocolError, UnicodeDecodeError):
            # Without what was sent: a token may be in it.
            answer = TokenRefused("The keychain's process was sent a request that it cannot read.", "Restart Nibble.")
        try:
            stdout.write(encode(answer).encode() + b"\n")
            stdout.flush()
        except BrokenPipeError:
            return 1
    return 0


def answer_to(request: Request) -> Answer:
    """Do what is asked with the system's keychain."""
    if not has_keychain():
        return TokenAnswer(has_keychain=False)
    try:
        match request:
            case ReadToken():
                return TokenAnswer(has_keychain=True, token=keyring.get_password(SERVICE, ACCOUNT))
            case KeepToken(token):
                keyring.set_password(SERVICE, ACCOUNT, token)
            case ForgetToken():
                if keyring.get_password(SERVICE, ACCOUNT) is not None:
                    keyring.delete_password(SERVICE, ACCOUNT)
    except KeyringError as error:
        return _refused(str(error) or type(error).__name__, request)
    except Exception as error:  # through keyring speak D-Bus and the system's own libraries
        return _refused(f"{type(error).__name__}: {error}", request)
    return TokenAnswer(has_keychain=True)


def has_keychain() -> bool:
    """Return whether this system has a place that outlives the program."""
    return not isinstance(keyring.get_keyring(), NoKeychain | ForgetfulKeychain)


def keychain_name() -> str:
    """Return what keyring calls the keychain that it found."""
    return str(keyring.get_keyring().name)


def _refused(reason: str, request: Request) -> TokenRefused:
    if isinstance(request, KeepToken):
        reason = reason.replace(request.token, "(token)")
    return TokenRefused(
        f"The keychain refused: {reason.splitlines()[0]}.",
        "Unlock it and allow Nibble to use it, then try again.",
    )
