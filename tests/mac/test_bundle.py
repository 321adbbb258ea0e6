"""What `build.spec` would take from the wheels that Macs get; their contents were noted by `make mac-wheels`."""

import plistlib
import re

import pytest
from packaging.utils import canonicalize_name, parse_wheel_filename

from app import __version__, bundle
from tests.mac.pins import bundled_packages
from tests.mac.wheels import NOTES, File, Wheel, read, sizes

LATER_THAN_THEY_SAY = re.compile(r"^(PySide6/Qt\w+\.abi3\.so|PySide6/libpyside6.*\.dylib|shiboken6/.*)$")
"""Since 6.10 Qt for Python's own part says macOS 15.0 in wheels named for 13.0; Qt's part says 13.0."""
LONG_IN_THE_SYSTEM = re.compile(
    r"^(___cxa_bad_typeid|_signal|__ZNSt3__1(12basic_string|13basic_ostream|15recursive_mutex)\w+"
    r"|_OBJC_CLASS_\$_(AVCaptureDevice|CBCentralManager|CNContactStore|EKEventStore))$"
)
"""C, C++11 and frameworks of macOS 10.15 and before."""


@pytest.fixture(scope="module")
def wheels() -> dict[str, Wheel]:
    return {wheel.package: wheel for wheel in read(NOTES)}


@pytest.fixture(scope="module")
def kept(wheels: dict[str, Wheel]) -> dict[str, File]:
    return {file.path: file for wheel in wheels.values() for file in wheel.files if bundle.is_wanted(file.path)}


def test_every_pin_has_a_wheel_for_macos_14_on_apple_silicon(wheels: dict[str, Wheel]) -> None:
    found = {}
    for wheel in wheels.values():
        name, version, _, tags = parse_wheel_filename(wheel.name)
        found[canonicalize_name(name)] = str(version)
        for platform in {tag.platform for tag in tags} - {"any"}:
            system, major, minor, machine = platform.split("_", 3)
            assert system == "macosx", wheel.name
            assert (int(major), int(minor)) <= bundle.MINIMUM_MACOS, wheel.name
            assert machine in ("arm64", "universal2"), wheel.name
    assert found == bundled_packages(), "renew the notes: make mac-wheels"


def test_of_mlx_library_transport_and_kernels_are_taken(wheels: dict[str, Wheel]) -> None:
    files = [file.path for package in ("mlx", "mlx_metal") for file in wheels[package].files]
    taken = bundle.mlx_libraries(files)
    assert sorted(taken) == ["mlx/lib/libjaccl.dylib", "mlx/lib/libmlx.dylib", "mlx/lib/mlx.metallib"]
    assert all(bundle.is_wanted(path) for path in taken)
    assert bundle.links(taken) == [("mlx.metallib", "mlx/lib/mlx.metallib", "SYMLINK")]
    assert bundle.links(["mlx/lib/libmlx.so"]) == []


def test_every_model_module_is_imported(wheels: dict[str, Wheel]) -> None:
    pytest.importorskip("PyInstaller")
    modules = {
        file.path.removesuffix(".py").replace("/", ".")
        for file in wheels["mlx_lm"].files
        if re.match(r"mlx_lm/(models|tool_parsers|chat_templates)/[\w/]+\.py$", file.path)
        and not file.path.endswith("__init__.py")
    }
    assert len(modules) > 130
    assert modules <= set(bundle.hidden_imports())


def test_headers_translations_and_unused_parts_of_qt_stay_out(kept: dict[str, File]) -> None:
    unwanted = ("/include/", "translations/", "/qml/", "Designer", "Quick", "Qml", "VirtualKeyboard", "Pdf", "Sql")
    assert not [
        path for path in kept if any(part in path for part in unwanted) and path.startswith(("PySide6", "mlx/"))
    ]
    assert not [path for path in kept if path.endswith((".h", ".pyi", ".qm", ".a"))]


def test_what_a_window_needs_is_kept(kept: dict[str, File]) -> None:
    for module in ("Core", "Gui", "Widgets"):
        assert f"PySide6/Qt{module}.abi3.so" in kept
        assert f"PySide6/Qt/lib/Qt{module}.framework/Versions/A/Qt{module}" in kept
        assert f"PySide6/Qt/lib/Qt{module}.framework/Versions/A/Resources/Info.plist" in kept
    for plugin in ("platforms/libqcocoa", "platforms/libqoffscreen", "styles/libqmacstyle", "iconengines/libqsvgicon"):
        assert f"PySide6/Qt/plugins/{plugin}.dylib" in kept


def test_no_kept_binary_loads_a_library_that_is_left_out(kept: dict[str, File]) -> None:
    names = {path.rpartition("/")[2] for path in kept}
    for file in kept.values():
        missing = [library for library in file.libraries if library.rpartition("/")[2] not in names]
        assert not missing, f"{file.path} loads {missing}"


def test_binaries_run_on_macos_14(kept: dict[str, File]) -> None:
    binaries = [file for file in kept.values() if file.minimum_macos is not None]
    assert len(binaries) > 40
    for file in binaries:
        assert file.minimum_macos is not None
        if file.minimum_macos > bundle.MINIMUM_MACOS:
            assert LATER_THAN_THEY_SAY.match(file.path), f"{file.path} wants macOS {file.minimum_macos}"
            strangers = [s for s in file.new_symbols if not LONG_IN_THE_SYSTEM.match(s) and not _is_bindings_own(s)]
            assert not strangers, f"{file.path} wants {strangers}, which may be newer than macOS 14"


def _is_bindings_own(symbol: str) -> bool:
    """Names that one part of Qt for Python defines for another."""
    return symbol in {
        *("_OBJC_CLASS_$_QDarwinPermissionHandler", "_OBJC_METACLASS_$_QDarwinPermissionHandler", "_init_DateTime"),
        *("_currentSelectId", "_disassembleFrame", "_enumIsFlag", "_get_signature_intern", "_initSelectableFeature"),
        *("_setDestroyQApplication", "_setSelectableFeatureCallback"),
    }


def test_sizes(wheels: dict[str, Wheel], capsys: pytest.CaptureFixture[str]) -> None:
    rows = {package: (kept, total) for package, kept, total in sizes(list(wheels.values()))}
    all_kept, all_there = (sum(column) for column in zip(*rows.values(), strict=True))
    qt = rows["pyside6_essentials"][0]
    with capsys.disabled():
        print(f"\n  bundle on a Mac: {all_kept / 1e6:.0f} of {all_there / 1e6:.0f} MB, Qt {qt / 1e6:.0f} MB")
    assert qt < 60e6
    assert rows["mlx_metal"][0] > 100e6
    assert all_kept < 400e6


def test_the_info_plist() -> None:
    plist = plistlib.loads(plistlib.dumps(bundle.info_plist()))
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*(\.[A-Za-z0-9-]+){2,}", plist["CFBundleIdentifier"])
    for key in ("CFBundleShortVersionString", "CFBundleVersion"):
        assert plist[key] == __version__
        assert re.fullmatch(r"\d+(\.\d+){0,2}", plist[key]), "at most three numbers"
    assert plist["LSMinimumSystemVersion"] == "14.0"
    assert plist["LSApplicationCategoryType"].startswith("public.app-category.")
    assert plist["NSHighResolutionCapable"] is True
    assert plist["NSRequiresAquaSystemAppearance"] is False, "dark windows stay dark"
    assert plist["UIDesignRequiresCompatibility"] is True
    assert "CFBundleExecutable" not in plist, "PyInstaller writes it, and the icon's name"
