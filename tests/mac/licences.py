"""Collect the licences of all that a Mac's bundle holds: `python -m tests.mac.licences FOLDER`, the wheels' folder.

Texts come from the wheels themselves; where a wheel brings none, from `_WITHOUT_TEXT`. Written into
`resources/licences`: `parts.json` and one text for each licence file, once where several parts have the same.
"""

import argparse
import hashlib
import json
import re
import sysconfig
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

from app.resources import licences_path

_COMMON = Path("/usr/share/common-licenses")
_IN_PYTHON = {  # libraries that Python's build for Macs holds, and Debian's package of each
    "OpenSSL": "libssl3",
    "libffi": "libffi8",
    "zlib": "zlib1g",
    "bzip2": "libbz2-1.0",
    "XZ": "liblzma5",
    "Expat": "libexpat1",
    "SQLite": "libsqlite3-0",
}
_NAMED = re.compile(r"\.dist-info/(licenses/.*[^/]|[^/]*(LICEN[CS]E|COPYING|NOTICE)[^/]*)$", re.IGNORECASE)
_WITHOUT_TEXT = {
    "pyside6_essentials": ("LGPL-3.0-only", ("LGPL-3", "GPL-3")),
    "shiboken6": ("LGPL-3.0-only", ("LGPL-3", "GPL-3")),
    "sentencepiece": ("Apache-2.0", ("Apache-2.0",)),
    "tokenizers": ("Apache-2.0", ("Apache-2.0",)),
}
_LICENCE_OF = {  # where a wheel's metadata does not say it in a word
    "jinja2": "BSD-3-Clause",
    "markdown_it_py": "MIT",
    "mdurl": "MIT",
    "safetensors": "Apache-2.0",
}
_QT_TERMS = """\
Nibble uses Qt and PySide6 (Qt for Python) under the GNU Lesser General
Public License, version 3, unchanged, as The Qt Company and its contributors
publish them. Its text follows, and that of the GNU General Public License,
which it refers to. Copyright (C) The Qt Company Ltd. and other
contributors.

You may use Nibble with a changed Qt. Qt's libraries are files of their own
in the app, loaded when it starts: on a Mac in
Nibble.app/Contents/Frameworks/PySide6/Qt/lib, on Linux in
_internal/PySide6/Qt/lib, PySide6's beside them. Build the same version of
Qt or PySide6 with your changes, put your files in place of these, and on a
Mac sign the app anew for your machine:

    codesign --force --deep --sign - Nibble.app

The sources of Qt and PySide6 are published by the Qt Project at
https://download.qt.io and https://code.qt.io. Nibble's own source is open
(Apache-2.0): `make bundle` in a checkout builds the whole app anew with the
Qt installed there. Taking the app apart to find faults in such changes is
allowed.
"""
_TITLES = {"pyside6_essentials": "Qt and PySide6", "shiboken6": "shiboken6 (Qt for Python)"}


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    version: str
    licence: str
    texts: tuple[str, ...]


def collect(wheels: Path) -> list[_Part]:
    """Return the parts, Qt first, since its licence asks to be seen; then by name."""
    parts = [_of_wheel(path) for path in sorted(wheels.glob("*.whl"))]
    python = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    parts.append(_Part("Python", "3.12", "PSF-2.0", (python.read_text(),)))
    notices = {name: Path(f"/usr/share/doc/{package}/copyright") for name, package in _IN_PYTHON.items()}
    inside = "\n\n".join(f"{name}\n\n{_clean(path.read_text())}" for name, path in notices.items())
    parts.append(_Part("Python's own libraries", "", f"Several: {', '.join(notices)}", (inside,)))
    starter = distribution("pyinstaller")
    texts = tuple(
        Path(str(starter.locate_file(file))).read_text() for file in starter.files or () if "licenses/" in str(file)
    )
    parts.append(_Part("PyInstaller's starter", starter.version, "GPL-2.0-or-later WITH Bootloader-exception", texts))
    return sorted(parts, key=lambda part: (not part.name.startswith("Qt"), part.name.lower()))


def write(parts: list[_Part], folder: Path) -> None:
    """Write the texts and their list."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    names: dict[str, str] = {}
    listed = []
    for part in parts:
        files = []
        for number, text in enumerate(part.texts):
            digest = hashlib.sha256(text.encode()).hexdigest()
            if digest not in names:
                ending = "" if len(part.texts) == 1 else f"-{number + 1}"
                names[digest] = re.sub(r"[^a-z0-9.]+", "-", part.name.lower()).strip("-") + f"{ending}.txt"
                (folder / names[digest]).write_text(text, encoding="utf-8")
            files.append(names[digest])
        listed.append({"name": part.name, "version": part.version, "licence": part.licence, "texts": files})
    (folder / "parts.json").write_text(json.dumps(listed, indent=1) + "\n")


def main() -> None:
    """Collect and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.mac.licences", description=__doc__)
    parser.add_argument("wheels", type=Path, help="folder that `python -m tests.mac.wheels` filled")
    parts = collect(parser.parse_args().wheels)
    write(parts, licences_path())
    print(f"{len(parts)} parts, {sum(1 for _ in licences_path().glob('*.txt'))} texts in {licences_path()}")


def _of_wheel(path: Path) -> _Part:
    key = path.name.split("-")[0].lower()
    with zipfile.ZipFile(path) as wheel:
        files = sorted(name for name in wheel.namelist() if _NAMED.search(name))
        texts = [_clean(wheel.read(name).decode(errors="replace")) for name in files]
        (about,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        facts = Parser().parsestr(wheel.read(about).decode())
    named = [facts["License-Expression"], facts["License"], _LICENCE_OF.get(key), *_classified(facts)]
    licence = next((name for name in named if name and len(name) <= 80), "")
    if not texts:
        if key not in _WITHOUT_TEXT:
            raise SystemExit(f"{path.name} brings no licence text: look, and add it to _WITHOUT_TEXT.")
        licence, common = _WITHOUT_TEXT[key]
        texts = [(_COMMON / name).read_text() for name in common]
        if key == "pyside6_essentials":
            texts.insert(0, _QT_TERMS)
    if not licence:
        raise SystemExit(f"{path.name} does not say under which licence it is: look, and add it to _LICENCE_OF.")
    distinct = list(dict.fromkeys(texts))
    joined = distinct if len(distinct) < 4 else ["\n\n".join(distinct)]
    return _Part(_TITLES.get(key, facts["Name"]), facts["Version"], licence, tuple(joined))


def _classified(facts: Message) -> list[str]:
    return [c.rpartition(" :: ")[2] for c in facts.get_all("Classifier", []) if c.startswith("License :: ")]


def _clean(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).strip() + "\n"


if __name__ == "__main__":
    main()
