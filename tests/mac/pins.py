"""Which packages a Mac's bundle is made of: what `pyproject.toml` asks for there, as `constraints.txt` pins it."""

import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
PYTHON = "3.12"
"""The Python that the bundle is built with."""
_MAC = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "arm64",
    "platform_python_implementation": "CPython",
    "platform_system": "Darwin",
    "python_full_version": f"{PYTHON}.0",
    "python_version": PYTHON,
    "sys_platform": "darwin",
}


def constraints() -> dict[str, str]:
    """Return the version of every pinned package, by its normalized name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def bundled_packages() -> dict[str, str]:
    """Return the version of each package that the bundle needs on a Mac, by normalized name.

    What a package needs is read from its installed form; one that only Macs have (mlx-metal) needs nothing.
    """
    pins, found = constraints(), {}
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    waiting = _for_mac(asked, frozenset())
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = pins[name]
            try:
                waiting += _for_mac(requires(name) or (), requirement.extras)
            except PackageNotFoundError:
                assert name == "mlx-metal", f"{name} is pinned but not installed"
    return dict(sorted(found.items()))


def _for_mac(lines: Iterable[str], extras: Iterable[str]) -> list[Requirement]:
    wanted = []
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**_MAC, "extra": extra}) for extra in ("", *extras)):
            wanted.append(requirement)
    return wanted
