"""Asking the Hugging Face hub what a repository holds, and saying in a sentence why it did not answer as hoped.

Only the download's process imports this: huggingface_hub and its HTTP library take long to load.
"""

from fnmatch import fnmatchcase

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

from app.catalogue.download_protocol import FailureKind
from app.catalogue.plan import PLAIN_NAME, Plan, PlannedFile, is_repository, is_revision
from app.errors import NibbleError

WEIGHTS = "model*.safetensors"
"""What mlx-lm reads; whatever else a repository holds is another form of the same weights."""
SAFE_FILES = (WEIGHTS, "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
"""What is fetched: data that no reader runs. Never Python, never pickles, nothing from folders inside."""
API_TIMEOUT_S = 20.0
BUSY_CODES = (408, 429, 500, 502, 503, 504)


class DownloadError(NibbleError):
    """A download cannot go on: `kind` says why to the window, message and hint to people."""

    def __init__(self, kind: FailureKind, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.kind = kind


def plan_of(repo: str, revision: str, token: str | None) -> Plan:
    """Ask what `repo` holds at `revision`. Raises what `huggingface_hub` and `httpx2` raise, and DownloadError."""
    if not is_repository(repo) or not is_revision(revision):
        raise _no_name(repo, revision)
    # False: without a token of ours no other program's token is used either.
    api = HfApi(token=token or False)
    try:
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=API_TIMEOUT_S)
        files = tuple(_planned(sibling) for sibling in info.siblings or () if is_safe(sibling.rfilename))
        commit = str(info.sha) if info.sha is not None else ""
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error  # JSON, but not of a model
    if not any(fnmatchcase(file.name, WEIGHTS) for file in files) or not any(f.name == "config.json" for f in files):
        raise DownloadError(
            FailureKind.UNSUITABLE,
            f"{repo} holds no model that Nibble can open: config.json and {WEIGHTS} are wanted.",
            "Choose a repository in MLX's format, such as those of mlx-community.",
        )
    if not commit:
        raise ValueError("the answer names no commit")
    return Plan(repo, revision, commit, files)


def is_safe(name: str) -> bool:
    """Return whether a repository's file is one that is fetched."""
    return bool(PLAIN_NAME.fullmatch(name)) and any(fnmatchcase(name, pattern) for pattern in SAFE_FILES)


def _planned(sibling: RepoSibling) -> PlannedFile:
    size, digest = (sibling.lfs.size, sibling.lfs.sha256) if sibling.lfs else (sibling.size, sibling.blob_id)
    if size is None or digest is None:
        raise ValueError(f"the answer gives no size or checksum of {sibling.rfilename}")
    return PlannedFile(sibling.rfilename, size, digest)


def is_lost_connection(error: Exception) -> bool:
    """Return whether `error` is the network's, so that trying again may help."""
    return isinstance(error, httpx2.TransportError)


def is_busy(error: Exception) -> bool:
    """Return whether the hub asks to come back later."""
    return isinstance(error, HfHubHTTPError) and error.response.status_code in BUSY_CODES


def explained(error: Exception, repo: str, has_token: bool) -> DownloadError | None:
    """Return an error of the hub or the network as one for people; None for one that is neither's."""
    if isinstance(error, DownloadError):
        return error
    if isinstance(error, HFValidationError):
        return _no_name(repo, "")
    if isinstance(error, OfflineModeIsEnabled):
        return DownloadError(
            FailureKind.OFFLINE,
            "Nothing is fetched, as HF_HUB_OFFLINE is set.",
            "Unset that variable, then start Nibble again.",
        )
    if isinstance(error, httpx2.TransportError):
        return DownloadError(
            FailureKind.OFFLINE,
            f"The Hugging Face hub cannot be reached: {_short(error)}",
            "Check the connection to the internet, then resume. What was fetched is kept.",
        )
    if isinstance(error, HfHubHTTPError):
        return _explained_refusal(error, repo, has_token)
    if isinstance(error, ValueError | httpx2.HTTPError):  # what answered is no hub: a sign-in page, a broken proxy
        return DownloadError(
            FailureKind.OFFLINE,
            f"What answered is not the Hugging Face hub: {_short(error)}",
            "The network may want you to sign in first; open any web page, then try again.",
        )
    return None


def _no_name(repo: str, revision: str) -> DownloadError:
    asked = f"{repo} ({revision})" if revision not in ("", "main") else repo
    return DownloadError(
        FailureKind.NOT_FOUND,
        f"“{asked}” cannot be the name of a model on the hub.",
        "Names look like mlx-community/Qwen3-0.6B-4bit.",
    )


def _explained_refusal(error: HfHubHTTPError, repo: str, has_token: bool) -> DownloadError:
    status = error.response.status_code
    if is_busy(error):
        return DownloadError(
            FailureKind.BUSY,
            f"The Hugging Face hub is too busy to answer (HTTP {status}).",
            "Resume in some minutes. What was fetched is kept.",
        )
    page = f"huggingface.co/{repo}"
    if isinstance(error, GatedRepoError):
        if has_token and status != 401:
            return DownloadError(
                FailureKind.NO_ACCESS,
                f"Your Hugging Face account may not fetch {repo} yet.",
                f"Accept its terms at {page}; some owners answer after days. Then resume.",
            )
        return DownloadError(
            FailureKind.TOKEN_WANTED,
            f"{repo} is given only to people who accepted its terms.",
            f"Accept them at {page}, then give Nibble an access token of your account.",
        )
    if isinstance(error, DisabledRepoError):
        return DownloadError(FailureKind.NO_ACCESS, f"The hub has closed {repo}.", "Choose another model.")
    if isinstance(error, RevisionNotFoundError):
        return DownloadError(FailureKind.NOT_FOUND, f"{repo} has no such revision.", "Leave the revision away.")
    if isinstance(error, RemoteEntryNotFoundError):
        return DownloadError(
            FailureKind.NOT_FOUND, f"A file of {repo} is gone from the hub.", "The model was changed: try again."
        )
    # To the hub a private model is one that does not exist; it says 401 to whoever sends no token.
    if isinstance(error, RepositoryNotFoundError) or status == 404 or (status == 401 and not has_token):
        return DownloadError(
            FailureKind.NOT_FOUND,
            f"The hub knows no model {repo}, or it is private.",
            "Check the name. A private model wants an access token of an account that may see it.",
        )
    if status == 401:
        return DownloadError(
            FailureKind.TOKEN_WANTED,
            "The hub does not accept the access token.",
            "It may have been revoked or mistyped: give Nibble another one.",
        )
    return DownloadError(
        FailureKind.NO_ACCESS,
        f"The hub refused {repo} (HTTP {status}).",
        "A token with fine-grained rights must be allowed to read this model.",
    )


def _short(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 200 else line[:199] + "…"
