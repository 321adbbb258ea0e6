"""What a Mac's binary says of itself, for Apple silicon; read by macholib."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from macholib import mach_o
from macholib.MachO import MachO
from macholib.SymbolTable import SymbolTable

MAGIC = {bytes.fromhex(magic) for magic in ("cffaedfe", "cafebabe", "cafebabf")}
"""First bytes of a binary, thin and universal; static libraries in a universal wrapper begin so too."""
_ARM64 = 0x0100000C
_SYSTEM = ("/usr/lib/", "/System/Library/")
_LOADS = (mach_o.LC_LOAD_DYLIB, mach_o.LC_LOAD_WEAK_DYLIB, mach_o.LC_REEXPORT_DYLIB)


@dataclass(frozen=True, slots=True)
class Binary:
    """One binary's part for arm64."""

    size_bytes: int
    minimum_macos: tuple[int, int]
    libraries: tuple[str, ...]
    """Names of the libraries it loads that are not the system's."""
    symbols: frozenset[str]
    """Names it expects others to define."""


def read_binary(content: bytes) -> Binary | None:
    """Return what a binary says; None for what is none, as static libraries are. Raises ValueError without arm64."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "binary"
        path.write_bytes(content)
        try:
            file = MachO(str(path))
        except ValueError:
            return None
        file.headers = [header for header in file.headers if header.header.cputype == _ARM64]
        if not file.headers:
            raise ValueError("no code for arm64")
        (header,) = file.headers
        minimum, libraries = None, []
        for load, command, data in header.commands:
            if load.cmd == mach_o.LC_BUILD_VERSION:
                minimum = command.minos
            elif load.cmd == mach_o.LC_VERSION_MIN_MACOSX:
                minimum = command.version
            elif load.cmd in _LOADS:
                name = data.rstrip(b"\0").decode()
                if not name.startswith(_SYSTEM):
                    libraries.append(name)
        if minimum is None:
            raise ValueError("no minimum version of macOS")
        undefined = frozenset(name.decode() for _, name in SymbolTable(file).undefsyms)
        return Binary(header.size, (int(minimum) >> 16, int(minimum) >> 8 & 255), tuple(libraries), undefined)
