"""What the bundled app is made of. `build.spec` freezes by it; tests hold it against the wheels that Macs get.

PyInstaller has no hook for mlx and mlx-lm, which import most of their modules by name at run time, and takes more of Qt
than a window of widgets needs. Only the functions that collect need PyInstaller; the rules are plain Python.
"""

import os
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from app import __version__
from app.resources import resources_path

NAME = "Nibble"
IDENTIFIER = "org.nibble.Nibble"
MINIMUM_MACOS = (14, 0)
"""mlx's wheels for 14.0 are the oldest."""

RELEASES_VARIABLE = "NIBBLE_RELEASES_URL"
"""Where the bundle is to look for newer versions; without it, it does not look."""

Pairs = list[tuple[str, str]]
"""Source file or folder, and the bundle's folder for it: what PyInstaller calls datas and binaries."""

EXCLUDED_MODULES = (
    *("torch", "tkinter", "matplotlib", "IPython", "PIL"),  # optional to what we bundle, and never used
    *("pytest", "_pytest", "hypothesis", "mypy", "mypyc", "ast_serialize", "setuptools", "pip", "PyInstaller"),
)
MLX_DISTRIBUTIONS = ("mlx-metal", "mlx-cpu")
"""Whose files hold mlx's library and its kernels: one a system."""

QT_BINDINGS = frozenset(("Core", "Gui", "Widgets", "Network"))
"""Modules that Nibble imports."""
QT_FRAMEWORKS = frozenset((*QT_BINDINGS, "DBus", "Svg"))
"""Libraries that these and the plugins below load on a Mac."""
QT_LIBRARIES = frozenset((*QT_FRAMEWORKS, "XcbQpa", "OpenGL", "WaylandClient", "WlShellIntegration"))
"""The same on Linux."""
QT_PLUGINS = {
    "iconengines": ("qsvgicon",),
    "imageformats": ("qsvg",),
    "platforminputcontexts": ("composeplatforminputcontextplugin", "ibusplatforminputcontextplugin"),
    "platforms": ("qcocoa", "qoffscreen", "qxcb", "qwayland"),
    "platformthemes": ("qxdgdesktopportal",),
    "styles": ("qmacstyle",),
    "tls": ("qsecuretransportbackend", "qopensslbackend", "qcertonlybackend"),
    "wayland-decoration-client": ("bradient", "adwaita"),
    "wayland-graphics-integration-client": ("qt-plugin-wayland-egl",),
    "wayland-shell-integration": ("xdg-shell",),
    "xcbglintegrations": ("qxcb-egl-integration", "qxcb-glx-integration"),
}
_QT_MODULES = (
    (re.compile(r"^PySide6/Qt(\w+)\.abi3\.so$"), QT_BINDINGS),
    (re.compile(r"^PySide6/Qt/lib/Qt(\w+)\.framework/"), QT_FRAMEWORKS),
    (re.compile(r"^(?:PySide6/Qt/lib/)?libQt6(\w+)\.so"), QT_LIBRARIES),
    (re.compile(r"^Qt(\w+)$"), QT_FRAMEWORKS),  # the link that PyInstaller puts at the top
)
_QT_PLUGIN = re.compile(r"^PySide6/Qt/plugins/([^/]+)/(?:lib)?([^/]+)\.(?:so|dylib)$")
_QT_LIBRARY = re.compile(
    r"^PySide6/(?:Qt/lib/libicu\w+\.so[.\d]*|libpyside6\.[^/]+\.(?:so|dylib)[.\d]*|__init__\.py|_\w+\.py)$"
)
_MLX_LIBRARY = re.compile(r"^mlx/lib/[^/]+\.(?:dylib|so|metallib)$")


def hidden_imports() -> list[str]:
    """Return the modules that are imported by name alone."""
    from PyInstaller.utils.hooks import collect_submodules

    modules = ["mlx._reprlib_fix", "mlx.__array_api_info", "mlx.utils"]
    for package in ("mlx.nn", "mlx_lm.models", "mlx_lm.tool_parsers", "mlx_lm.chat_templates", "app", "kernels"):
        modules += collect_submodules(package, on_error="ignore")
    if find_spec("keyring") is not None:  # its backends are found by entry points
        modules += collect_submodules("keyring.backends", on_error="ignore")
    return modules


def datas(root: Path) -> Pairs:
    """Return the files that are read at run time: our own from the checkout at `root`, and those of packages."""
    from PyInstaller.utils.hooks import copy_metadata

    pairs = [(str(resources_path()), "resources"), (str(root / "kernels" / "metal"), "kernels/metal")]
    pairs += [pair for pair in _mlx_libraries() if pair[0].endswith(".metallib")]
    if address := os.environ.get(RELEASES_VARIABLE):
        file = root / "build" / "releases.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{address}\n", encoding="utf-8")
        pairs.append((str(file), "resources"))
    for name in ("mlx", "mlx-lm", "keyring"):
        if _is_installed(name):
            pairs += copy_metadata(name)
    return pairs


def binaries() -> Pairs:
    """Return mlx's libraries: one is opened by name at run time."""
    return [pair for pair in _mlx_libraries() if not pair[0].endswith(".metallib")]


def links(destinations: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return the symbolic links that the bundle wants besides, in PyInstaller's form.

    WORKAROUND mlx 0.32: it looks for its kernels beside its library as the loader names that, which in a bundle can be
    the link that PyInstaller puts at the top.
    """
    return [("mlx.metallib", path, "SYMLINK") for path in destinations if path == "mlx/lib/mlx.metallib"]


def mlx_libraries(files: Iterable[str]) -> list[str]:
    """Of the files of mlx's distributions return those that it loads: library, transport and kernels."""
    return [file for file in files if _MLX_LIBRARY.match(file)]


def is_wanted(destination: str) -> bool:
    """Tell whether a file, by its path in the bundle, is of use at run time: of Qt what we use, and no headers."""
    for pattern, used in _QT_MODULES:
        if module := pattern.match(destination):
            return module[1] in used
    if plugin := _QT_PLUGIN.match(destination):
        return plugin[2].startswith(QT_PLUGINS.get(plugin[1], ("\0",)))
    if destination.startswith("PySide6/"):
        return _QT_LIBRARY.match(destination) is not None
    path = PurePosixPath(destination)
    if path.parts[:1] == ("mlx",) and len(path.parts) > 1 and path.parts[1] in ("include", "share"):
        return False
    return path.suffix not in (".h", ".hpp", ".pyi") and path.name != "py.typed"


def info_plist() -> dict[str, object]:
    """Return what macOS is told of the app."""
    return {
        "CFBundleIdentifier": IDENTIFIER,
        "CFBundleName": NAME,
        "CFBundleDisplayName": NAME,
        "CFBundleShortVersionString": __version__,
        "CFBundleVersion": __version__,
        "LSMinimumSystemVersion": ".".join(map(str, MINIMUM_MACOS)),
        "LSApplicationCategoryType": "public.app-category.productivity",
        "NSHighResolutionCapable": True,
        "NSRequiresAquaSystemAppearance": False,
        "NSHumanReadableCopyright": "Apache-2.0. Licences of all parts: About Nibble, Licences…",
        "UIDesignRequiresCompatibility": True,
    }


def _mlx_libraries() -> Pairs:
    pairs = []
    for name in MLX_DISTRIBUTIONS:
        if _is_installed(name):
            installed = distribution(name)
            for file in mlx_libraries(str(f) for f in installed.files or ()):
                pairs.append((str(installed.locate_file(file)), str(PurePosixPath(file).parent)))
    return pairs


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
