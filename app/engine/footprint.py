"""How much memory the engine's process takes, as the system counts it: MLX's allocator knows only its own part."""

import ctypes
import os
import resource
import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")
FOOTPRINT = "physical footprint (phys_footprint), as Activity Monitor shows it"
RESIDENT = "resident set (/proc/self/statm)"
PEAK_RESIDENT = "highest resident set so far (getrusage)"


class _RUsageInfoV0(ctypes.Structure):
    """`struct rusage_info_v0` of macOS's <sys/resource.h>."""

    _fields_ = (
        ("ri_uuid", ctypes.c_uint8 * 16),
        ("ri_user_time", ctypes.c_uint64),
        ("ri_system_time", ctypes.c_uint64),
        ("ri_pkg_idle_wkups", ctypes.c_uint64),
        ("ri_interrupt_wkups", ctypes.c_uint64),
        ("ri_pageins", ctypes.c_uint64),
        ("ri_wired_size", ctypes.c_uint64),
        ("ri_resident_size", ctypes.c_uint64),
        ("ri_phys_footprint", ctypes.c_uint64),
        ("ri_proc_start_abstime", ctypes.c_uint64),
        ("ri_proc_exit_abstime", ctypes.c_uint64),
    )


def process_footprint() -> tuple[int, str]:
    """Return this process's bytes and how they were counted: by the best means that the system has."""
    if sys.platform == "darwin" and (size := _physical_footprint()):
        return size, FOOTPRINT
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), RESIDENT
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most * (1 if sys.platform == "darwin" else 1024), PEAK_RESIDENT


def _physical_footprint() -> int:
    """Ask macOS; 0 where it does not answer."""
    try:
        call = ctypes.CDLL("/usr/lib/libproc.dylib").proc_pid_rusage
    except (OSError, AttributeError):
        return 0
    info = _RUsageInfoV0()
    return int(info.ri_phys_footprint) if call(os.getpid(), 0, ctypes.byref(info)) == 0 else 0
