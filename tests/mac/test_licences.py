"""The licences of everything that a Mac's bundle holds come with it."""

from packaging.utils import canonicalize_name

from app.resources import bundled_parts
from tests.mac.pins import bundled_packages

_QT = {"pyside6-essentials": "qt-and-pyside6", "shiboken6": "shiboken6-qt-for-python"}


def _key(name: str) -> str:
    return canonicalize_name(name.replace("(", "").replace(")", "").replace(" ", "-"))


def test_every_bundled_package_has_its_licence_of_the_version_that_is_bundled() -> None:
    parts = {_key(part.name): part for part in bundled_parts()}
    for package, version in bundled_packages().items():
        part = parts[_QT.get(package, package)]
        assert part.version == version, f"{package}: renew them with make mac-wheels"
    assert {"python", "pyinstaller's-starter"} <= parts.keys()
    assert "OpenSSL" in parts["python's-own-libraries"].text


def test_every_part_names_a_licence_and_has_its_text() -> None:
    for part in bundled_parts():
        assert part.licence, part.name
        assert len(part.text) > 400, part.name
        words = ("permission", "licen", "redistribution")
        assert any(word in part.text.lower() for word in words), part.name


def test_qt_comes_first_with_its_terms() -> None:
    qt = bundled_parts()[0]
    assert qt.name.startswith("Qt")
    assert qt.licence == "LGPL-3.0-only"
    for passage in (
        "codesign --force --deep --sign - Nibble.app",
        "GNU LESSER GENERAL PUBLIC LICENSE",
        "                    GNU GENERAL PUBLIC LICENSE",
        "Combined Works",
    ):
        assert passage in qt.text
