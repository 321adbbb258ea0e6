"""Which downloads are under way, kept in files, so that what a killed window leaves is known and goes on next time."""

import json
import logging
from pathlib import Path

from app.catalogue.plan import Plan
from app.chat.plain import from_fields, plain_fields
from app.errors import NibbleError
from app.paths import move_aside, replace_text

_log = logging.getLogger(__name__)


class DownloadRecords:
    """A folder with the plan of every download that was begun and neither finished nor cancelled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, plan: Plan) -> None:
        """Keep `plan`, in place of an older one of the same repository. Raises NibbleError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NibbleError(
                f"The folder {self._folder} could not be made: {error.strerror or error}.",
                "Check that you may write there.",
            ) from error
        replace_text(self._path(plan.repo), json.dumps(plain_fields(plan), indent=1))

    def load(self, repo: str) -> Plan | None:
        """Return the plan of a repository's download that is under way. A file that is damaged is moved aside."""
        path = self._path(repo)
        try:
            plan = from_fields(Plan, json.loads(path.read_text(encoding="utf-8")), "plan")
            if plan.repo != repo:
                raise ValueError(f"it is of {plan.repo}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("%s cannot be read: %s", path, error)
            try:
                move_aside(path, "damaged")
            except OSError as why:
                _log.warning("%s could not be moved aside: %s", path, why)
            return None
        assert isinstance(plan, Plan)
        return plan

    def repositories(self) -> tuple[str, ...]:
        """Return the repositories whose downloads are under way."""
        names = sorted(path.stem for path in self._folder.glob("*.json"))
        return tuple(repo for name in names if self.load(repo := name.replace("--", "/", 1)) is not None)

    def remove(self, repo: str) -> None:
        """Forget a repository's download. Raises OSError."""
        self._path(repo).unlink(missing_ok=True)

    def _path(self, repo: str) -> Path:
        return self._folder / f"{repo.replace('/', '--')}.json"
