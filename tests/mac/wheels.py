"""Fetch the wheels that a Mac's bundle is built from, and note what is in them: `python -m tests.mac.wheels FOLDER`.

Every pin must have a wheel for macOS 14 on Apple silicon, or pip fails. What is noted goes into `wheels.json.gz`, so
that the tests need no network; sizes are printed.
"""

import argparse
import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from app.bundle import MINIMUM_MACOS, is_wanted
from tests.mac.machine_code import MAGIC, Binary, read_binary
from tests.mac.pins import PYTHON, ROOT, bundled_packages

NOTES = Path(__file__).with_name("wheels.json.gz")
LISTED = ("mlx", "mlx_metal", "mlx_lm", "pyside6_essentials", "shiboken6")
"""Wheels of which every file is noted; of the others, their binaries."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a wheel; the last three for binaries alone."""

    path: str
    size_bytes: int
    """On arm64: a universal binary is thinned."""
    minimum_macos: tuple[int, int] | None = None
    libraries: tuple[str, ...] = ()
    new_symbols: tuple[str, ...] = ()
    """Where the minimum is above ours: what it wants of the system that no other bundled binary wants."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel: its file's name, and its files."""

    name: str
    total_bytes: int
    files: tuple[File, ...]

    @property
    def package(self) -> str:
        """The package's name, as wheels spell it."""
        return self.name.split("-")[0].lower()


def fetch(folder: Path) -> None:
    """Download a wheel for every pin; raises CalledProcessError where one has none."""
    pins = [f"{name}=={version}" for name, version in bundled_packages().items()]
    platform = f"macosx_{MINIMUM_MACOS[0]}_{MINIMUM_MACOS[1]}_arm64"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    only = ["--only-binary=:all:", "--python-version", PYTHON, "--platform", platform]
    subprocess.run([*command, *only, "--dest", str(folder), *pins], check=True)


def note(folder: Path) -> list[Wheel]:
    """Return what the wheels in `folder` hold."""
    binaries: dict[str, dict[str, Binary]] = {}
    sizes: dict[str, dict[str, int]] = {}
    for path in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            sizes[path.name] = {i.filename: i.file_size for i in wheel.infolist() if not i.is_dir()}
            binaries[path.name] = dict(_binaries(wheel))
    known = frozenset[str]().union(
        *(b.symbols for of in binaries.values() for b in of.values() if b.minimum_macos <= MINIMUM_MACOS)
    )
    wheels = []
    for name, files in sizes.items():
        noted = [
            _file(path, size, binaries[name].get(path), known)
            for path, size in files.items()
            if path in binaries[name] or name.split("-")[0].lower() in LISTED
        ]
        wheels.append(Wheel(name, sum(files.values()), tuple(noted)))
    return wheels


def write(wheels: list[Wheel], path: Path) -> None:
    """Write the notes, the same bytes for the same wheels."""
    lines = json.dumps([asdict(wheel) for wheel in wheels], separators=(",", ":"))
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def read(path: Path) -> list[Wheel]:
    """Read the notes."""
    return [
        Wheel(wheel["name"], wheel["total_bytes"], tuple(_read_file(file) for file in wheel["files"]))
        for wheel in json.loads(gzip.decompress(path.read_bytes()))
    ]


def sizes(wheels: list[Wheel]) -> Iterator[tuple[str, int, int]]:
    """Yield of each wheel its package, what is bundled of it, and what it has, in bytes.

    Of packages whose Python is not listed the whole is counted: PyInstaller takes the modules that are imported.
    """
    for wheel in wheels:
        kept = sum(file.size_bytes for file in wheel.files if is_wanted(file.path))
        yield wheel.package, kept if wheel.package in LISTED else wheel.total_bytes, wheel.total_bytes


def main() -> None:
    """Fetch, note, and print sizes."""
    parser = argparse.ArgumentParser(prog="python -m tests.mac.wheels", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the wheels are kept")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    fetch(folder)
    wheels = note(folder)
    write(wheels, NOTES)
    rows = sorted(sizes(wheels), key=lambda row: -row[1])
    for package, kept, total in (*rows, ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))):
        print(f"{package:<22}{kept / 1e6:>8.1f} MB of {total / 1e6:>7.1f} MB")
    print(f"noted in {NOTES.relative_to(ROOT)}")


def _binaries(wheel: zipfile.ZipFile) -> Iterator[tuple[str, Binary]]:
    for entry in wheel.infolist():
        with wheel.open(entry) as file:
            if file.read(4) not in MAGIC:
                continue
        if binary := read_binary(wheel.read(entry)):
            yield entry.filename, binary


def _file(path: str, size_bytes: int, binary: Binary | None, known: frozenset[str]) -> File:
    if binary is None:
        return File(path, size_bytes)
    is_newer = binary.minimum_macos > MINIMUM_MACOS and is_wanted(path)
    new = sorted(name for name in binary.symbols - known if _is_of_system(name)) if is_newer else []
    return File(path, binary.size_bytes, binary.minimum_macos, binary.libraries, tuple(new))


def _is_of_system(symbol: str) -> bool:
    """Tell whether a name is C's, C++'s or Objective-C's own rather than Python's, Qt's or its bindings'."""
    return symbol.startswith(("___", "__ZNSt", "__ZNKSt", "__ZSt", "__ZTISt", "__ZTVSt", "_objc", "_OBJC")) or (
        symbol.startswith("_") and symbol[1:2].islower() and "_Py" not in symbol
    )


def _read_file(data: dict[str, object]) -> File:
    minimum = data["minimum_macos"]
    return File(
        str(data["path"]),
        int(str(data["size_bytes"])),
        None if minimum is None else tuple(minimum),  # type: ignore[arg-type]
        tuple(data["libraries"]),  # type: ignore[arg-type]
        tuple(data["new_symbols"]),  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    main()
