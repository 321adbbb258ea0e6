"""What `make` installs is what was tested: versions in constraints.txt, their hashes in requirements.lock."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text()


def locked() -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of every package of the lock."""
    found = {}
    for block in re.split(r"\n(?=\S)", LOCK.strip()):
        requirement, *hashes = block.split(" \\\n")
        parsed = Requirement(requirement)
        (specifier,) = parsed.specifier
        assert specifier.operator == "=="
        found[canonicalize_name(parsed.name)] = (specifier.version, [line.strip() for line in hashes])
    return found


def test_every_package_has_hashes_and_no_address():
    for name, (_, hashes) in locked().items():
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), name
    assert "://" not in LOCK
    assert "index" not in LOCK


def test_the_lock_has_the_versions_of_the_constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    constraints = {canonicalize_name(name): version for name, version in pinned.items()}
    assert {name: version for name, (version, _) in locked().items()} == constraints


def test_what_the_project_asks_for_is_in_the_lock():
    """Else `make lock` was forgotten."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    found = locked()
    for requirement in map(Requirement, asked):
        version, _ = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement
