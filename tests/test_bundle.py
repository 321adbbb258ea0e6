"""What `build.spec` takes from this checkout and this machine; tests/mac has the same for Macs."""

from pathlib import Path

import pytest

from app import bundle

pytest.importorskip("PyInstaller")
ROOT = Path(__file__).parent.parent


def test_resources_and_kernels_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(bundle.RELEASES_VARIABLE, raising=False)
    pairs = bundle.datas(ROOT)
    places = {place: Path(source) for source, place in pairs}
    assert (places["resources"] / "starter" / "model.safetensors").exists()
    assert (places["kernels/metal"] / "attend.metal").exists()
    assert {"mlx", "mlx_lm"} <= {place.split("-")[0] for place in places}, "their versions are read at run time"
    assert all(Path(source).exists() for source, _ in pairs)
    assert not any(source.endswith("releases.txt") for source, _ in pairs)


def test_a_release_knows_where_newer_ones_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bundle.RELEASES_VARIABLE, "https://example.org/latest")
    (source,) = (Path(source) for source, place in bundle.datas(tmp_path) if source.endswith("releases.txt"))
    assert source.read_text() == "https://example.org/latest\n"
    monkeypatch.setattr("app.resources.resources_path", lambda: source.parent)
    from app.resources import releases_address

    assert releases_address() == "https://example.org/latest"


def test_mlx_library_comes_along_in_its_place() -> None:
    places = {place: Path(source).name for source, place in bundle.binaries()}
    assert places["mlx/lib"].startswith("libmlx.")


@pytest.mark.parametrize(
    ("path", "is_wanted"),
    [
        ("PySide6/Qt/lib/libQt6Core.so.6", True),
        ("libQt6Core.so.6", True),
        ("PySide6/Qt/lib/libQt6Quick.so.6", False),
        ("libQt6Quick.so.6", False),
        ("PySide6/Qt/lib/libicudata.so.73", True),
        ("PySide6/libpyside6.abi3.so.6.11", True),
        ("PySide6/libpyside6qml.abi3.so.6.11", False),
        ("PySide6/Qt/plugins/platforms/libqxcb.so", True),
        ("PySide6/Qt/plugins/platformthemes/libqgtk3.so", False),
        ("PySide6/Qt/plugins/sqldrivers/libqsqlite.so", False),
        ("PySide6/Qt/translations/qtbase_de.qm", False),
        ("PySide6/Qt/lib/QtGui.framework/Versions/A/Resources/Info.plist", True),
        ("PySide6/Qt/lib/QtPdf.framework/Versions/A/QtPdf", False),
        ("mlx/include/mlx/mlx.h", False),
        ("mlx/lib/mlx.metallib", True),
        ("resources/models.toml", True),
        ("keyring/backends/macOS/api.py", True),
    ],
)
def test_what_is_of_use(path: str, is_wanted: bool) -> None:
    assert bundle.is_wanted(path) == is_wanted
