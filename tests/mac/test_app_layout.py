"""Where PyInstaller puts things inside the .app: its own rules, run on the Mac's files, make a tree of empty ones."""

from pathlib import Path

import pytest

from app import bundle
from tests.mac.wheels import NOTES, read

osx = pytest.importorskip("PyInstaller.building.osx")


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the app's folder: every file empty, every link a link."""
    files = [file for wheel in read(NOTES) for file in wheel.files if bundle.is_wanted(file.path)]
    toc = [
        (file.path, file.path, "BINARY" if file.minimum_macos is not None else "DATA")
        for file in files
        if not file.path.endswith(".py")
    ]
    toc += bundle.links([path for path, _, _ in toc])
    # As it does for every library of a package that others load by its name alone:
    toc += [("libmlx.dylib", "mlx/lib/libmlx.dylib", "SYMLINK")]
    toc += [("Nibble", "Nibble", "EXECUTABLE"), ("resources/icons/nibble.png", "nibble.png", "DATA")]
    app = tmp_path_factory.mktemp("Nibble.app")
    for place, source, kind in object.__new__(osx.BUNDLE)._process_bundle_toc(toc):
        path = app / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "SYMLINK":
            path.symlink_to(source)
        else:
            path.touch()
    return app / "Contents"


def test_the_kernels_lie_beside_the_library_however_it_is_named(contents: Path) -> None:
    libraries = list(contents.rglob("libmlx.dylib"))
    assert contents / "Frameworks" / "mlx" / "lib" / "libmlx.dylib" in libraries
    assert contents / "Frameworks" / "libmlx.dylib" in libraries
    for library in libraries:
        assert library.exists(), "a link to nowhere"
        kernels = library.with_name("mlx.metallib")
        assert kernels.exists(), library
        assert kernels.resolve() == (contents / "Resources" / "mlx" / "lib" / "mlx.metallib").resolve()


def test_no_link_leads_nowhere_or_out_of_the_app(contents: Path) -> None:
    links = [path for path in contents.rglob("*") if path.is_symlink()]
    assert links
    for link in links:
        assert link.exists(), link
        assert link.resolve().is_relative_to(contents.resolve()), link


def test_what_is_signed_as_code_is_code(contents: Path) -> None:
    for path in (contents / "Frameworks").rglob("*"):
        if path.is_file() and not path.is_symlink() and ".framework" not in str(path):
            assert path.suffix in (".dylib", ".so"), path
    assert (contents / "MacOS" / "Nibble").exists()
    assert (contents / "Frameworks" / "resources" / "icons" / "nibble.png").exists(), "where the program looks for it"
