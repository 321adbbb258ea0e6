"""Compiles generated Metal text for the host, with clang, into a library that the engine is linked into."""

import functools
import getpass
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from platform import machine, system
from typing import Literal

from tests.metal_host.generated_text import TEXT_NAME, GeneratedText

Build = Literal["fast", "checked"]

HERE = Path(__file__).parent
CACHE = Path(tempfile.gettempdir()) / f"nibble-metal-host-{getpass.getuser()}"
"""Compiled kernels, by the hash of everything that decides them; may be deleted at any time."""
OLDEST_CLANG = 17

LANGUAGE = (
    *("-x", "clcpp", "-cl-std=clc++2021", "-cl-no-stdinc", "-cl-single-precision-constant", "-DMLX_METAL_JIT=1"),
    *("-Xclang", "-cl-ext=-cl_khr_fp64,-__opencl_c_fp64"),  # no double, as in Metal
    *("-Xclang", "-ffloat16-excess-precision=none", "-Xclang", "-fbfloat16-excess-precision=none"),
    *("-ffp-contract=on", "-fno-math-errno", "-fPIC", "-march=x86-64-v3", "-Wno-unknown-attributes"),
    "-Wno-c++20-extensions",
)
STRICT = (
    *("-Werror=implicit-float-conversion", "-Werror=float-conversion", "-Werror=uninitialized"),
    *("-Werror=sometimes-uninitialized", "-Werror=type-limits", "-Werror=return-type", "-Werror=array-bounds"),
    *("-Werror=shift-count-overflow", "-Werror=parentheses"),
    *("-Wframe-larger-than=32768", "-Werror=frame-larger-than"),  # a fiber's stack holds 64 KB
)
DUMP = ("-w", "-fsyntax-only", "-Xclang", "-ast-dump", "-fno-color-diagnostics")
BUILDS: dict[Build, tuple[str, ...]] = {
    "fast": ("-O2", "-g1"),
    # The engine defines what the instrumentation calls; no sanitizer runtime is linked.
    "checked": (
        *("-O1", "-g", "-ftrivial-auto-var-init=pattern"),
        "-fsanitize=thread,bounds,alignment,null,integer-divide-by-zero,signed-integer-overflow,float-cast-overflow,"
        "bool,unreachable,return",
        *("-mllvm", "-tsan-instrument-func-entry-exit=0", "-mllvm", "-tsan-instrument-atomics=0"),
        *("-mllvm", "-pragma-unroll-threshold=1"),  # unrolled, a large kernel takes ten times as long to compile
    ),
}
POISONED = "goto vertex fragment sampler"
"""Words that Metal does not have or has for itself, and clang would take."""

POSITIONS = {
    "thread_position_in_grid": "position",
    "thread_position_in_threadgroup": "local_position",
    "threadgroup_position_in_grid": "group",
    "threads_per_grid": "grid",
    "threads_per_threadgroup": "threadgroup",
    "threadgroups_per_grid": "groups",
}
INDICES = {
    "thread_index_in_threadgroup": "place->index",
    "thread_index_in_simdgroup": "place->lane",
    "simdgroup_index_in_threadgroup": "place->simdgroup",
    "simdgroups_per_threadgroup": "place->simdgroups",
    "threads_per_simdgroup": "32u",
}


class CompileError(Exception):
    """The text is no Metal, or leaves the portable subset."""


class NoCompilerError(Exception):
    """The emulator cannot run on this machine; the message says why."""


@functools.cache
def find_compiler() -> str:
    """Return the clang to use: `$NIBBLE_CLANG`, `clang-19`, or a `clang` that is new enough. Raises NoCompilerError."""
    if (system(), machine()) != ("Linux", "x86_64"):
        raise NoCompilerError(f"the Metal emulator runs on Linux on x86-64; this is {system()} on {machine()}.")
    for name in filter(None, (os.environ.get("NIBBLE_CLANG"), "clang-19", "clang")):
        path = shutil.which(name)
        if path is None:
            continue
        told = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        number = re.search(r"clang version (\d+)", told)
        if number and int(number[1]) >= OLDEST_CLANG:
            return path
    raise NoCompilerError(
        f"the Metal kernels were NOT run: no clang {OLDEST_CLANG} or newer. Install clang-19, or set NIBBLE_CLANG."
    )


def compile_kernel(kernel: GeneratedText, build: Build) -> Path:
    """Return the library of one kernel, compiled unless an equal text was before. Raises CompileError."""
    source = _source(kernel)
    key = _hash(source, repr((LANGUAGE, STRICT, BUILDS[build])), _own_files(), _compiler_version())
    library = CACHE / f"{build}-{key}.so"
    if library.exists():
        return library
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        text, tree, kernel_object, linked = (
            Path(folder) / name for name in ("kernel.cpp", "tree", "kernel.o", "kernel.so")
        )
        text.write_text(source)
        dump = (find_compiler(), *LANGUAGE, *_include_flags(), *DUMP, str(text))
        with tree.open("w") as dumped, subprocess.Popen(dump, stdout=dumped, stderr=subprocess.DEVNULL):
            _clang(*LANGUAGE, *STRICT, *BUILDS[build], *_include_flags(), "-c", text, "-o", kernel_object)
        unqualified = _unqualified_pointers(tree.read_text())
        if unqualified:
            raise CompileError("\n".join(unqualified))
        _clang("-shared", "-Wl,-z,defs", kernel_object, _engine(build), "-lstdc++", "-lm", "-o", linked)
        linked.replace(library)
    return library


def _source(kernel: GeneratedText) -> str:
    """Return the text with MLX's prelude before it and, after it, the function that the engine calls."""
    return "\n".join(
        (
            '#include "mlx/backend/metal/kernels/utils.h"',
            f"#pragma GCC poison {POISONED}",
            f'#line 1 "{TEXT_NAME}"',
            kernel.text,
            '#line 1 "entry"',
            'extern "C" void host_entry(__global void* __global* buffers, const __global HostThread* place) {',
            f"  {kernel.instance}(" + ", ".join(_value(a.type, a.name, a.buffer) for a in kernel.arguments) + ");",
            "}\n",
        )
    )


def _value(kind: str, name: str, buffer: int | None) -> str:
    if buffer is not None and kind.endswith("&"):
        return f"*({kind[:-1]}*)(ulong)buffers[{buffer}]"
    if buffer is not None:
        return f"({kind})(ulong)buffers[{buffer}]"
    if name in POSITIONS:
        return "uint3({})".format(", ".join(f"place->{POSITIONS[name]}[{axis}]" for axis in range(3)))
    if name in INDICES:
        return INDICES[name]
    raise CompileError(f"`{name}` is outside the portable subset of Metal (tests/metal_host/README.md).")


def _engine(build: Build) -> Path:
    """Return the engine as an object file, compiled unless it was before."""
    flags = ("-x", "c++", "-std=c++17", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror")
    flags += ("-DCHECKED",) if build == "checked" else ()
    made = CACHE / f"engine-{build}-{_hash(repr(flags), _own_files(), _compiler_version())}.o"
    if not made.exists():
        partial = made.with_suffix(f".{os.getpid()}")
        _clang(*flags, "-c", HERE / "engine/engine.cpp", "-o", partial)
        partial.replace(made)
    return made


def _unqualified_pointers(tree: str) -> list[str]:
    """Return a line for each pointer or reference of the text, given as a syntax tree, that names no address space.

    Metal refuses them; clang takes them for pointers to any space, which its syntax tree calls `__generic`.
    """
    declared = re.compile(r"-(VarDecl|ParmVarDecl|FieldDecl|CStyleCastExpr|CXXReinterpretCastExpr|CXXStaticCastExpr) ")
    place = re.compile(r"([^\s<,]+):(\d+):\d+")
    file, line, found = "", 0, {}
    for node in tree.split("\n"):
        location = re.search(r"<([^>]*)>(?: (\S+))?", node)
        for name, number in place.findall(" ".join(filter(None, location.groups()))) if location else ():
            line = int(number)
            file = file if name == "line" else name
        if file == TEXT_NAME and "__generic" in node and declared.search(node):
            kind = re.search(r"'([^']*)'", node)
            found.setdefault(line, f"{TEXT_NAME} line {line}: `{kind[1] if kind else '?'}` names no address space.")
    return list(found.values())


def _clang(*arguments: str | Path) -> str:
    done = subprocess.run([find_compiler(), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stderr)
    return done.stdout


@functools.cache
def _include_flags() -> tuple[str, ...]:
    """The shim comes first: it stands in for Metal's own headers and for two of MLX's."""
    mlx = find_spec("mlx")
    folders = (HERE / "include", HERE / "engine", *(Path(p) / "include" for p in mlx.submodule_search_locations))
    return tuple(flag for folder in folders for flag in ("-isystem", str(folder)))


@functools.cache
def _own_files() -> str:
    """Return a hash of engine and shim, and of which MLX's prelude is used."""
    files = sorted(p for folder in ("engine", "include") for p in (HERE / folder).rglob("*") if p.is_file())
    return _hash(*(p.read_text() for p in files), *_include_flags(), version("mlx"))


@functools.cache
def _compiler_version() -> str:
    return _clang("--version")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
