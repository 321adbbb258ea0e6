"""What the engine runs on, for the panel and for every exported row."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

from app import __version__
from app.chat.figures import MachineFacts, MemoryFigures
from app.engine.footprint import process_footprint
from kernels import dispatch


def machine_facts() -> MachineFacts:
    """Return the facts of this machine and of the packages in use."""
    return MachineFacts(
        machine=_machine_name(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        os=_os_name(),
        device="cpu" if dispatch.backend() == "cpu" else "gpu",
        backend=dispatch.backend(),
        nibble_version=__version__,
        python_version=platform.python_version(),
        mlx_version=version("mlx"),
        mlx_lm_version=version("mlx-lm"),
    )


def memory_figures() -> MemoryFigures:
    """Return what MLX's allocator and the whole process hold now."""
    process_bytes, measure = process_footprint()
    return MemoryFigures(
        active_bytes=mx.get_active_memory(),
        peak_bytes=mx.get_peak_memory(),
        pool_bytes=mx.get_cache_memory(),
        process_bytes=process_bytes,
        process_measure=measure,
    )


def _machine_name() -> str:
    if sys.platform == "darwin":
        name = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        ).stdout.strip()
        return name or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return platform.machine()


def _os_name() -> str:
    if sys.platform == "darwin":
        # Python's own answer is 16 on macOS 26 where the program was built with an older SDK (cpython issue 135675).
        asked = ["/usr/bin/sw_vers", "-productVersion"]
        found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        return f"macOS {found or platform.mac_ver()[0]}"
    return f"{platform.system()} {platform.release()}"
