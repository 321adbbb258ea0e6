"""Keeps macOS from putting this process to rest while its window is covered (App Nap), or the Mac while it downloads.

A covered program's timers, disk and processor are throttled by macOS, and its children's with them, which would slow
down a reply and every figure taken of it. A process says that it is at work by an activity (NSProcessInfo,
`beginActivityWithOptions:reason:`), spoken to through the Objective-C runtime. It lasts as long as the process.

Never run on a Mac yet; what fails here is logged, and costs no more than the rest it was to prevent.
"""

import ctypes
import logging
import sys

_log = logging.getLogger(__name__)

_USER_INITIATED = 0x00FFFFFF
_IDLE_SYSTEM_SLEEP_DISABLED = 1 << 20
"""NSActivityOptions of <Foundation/NSProcessInfo.h>; the first contains the second."""


def stay_awake(reason: str, *, mac_too: bool = False) -> None:
    """Have this process run on while no one looks at its window; with `mac_too` the Mac does not go to sleep by itself.

    Does nothing on other systems.
    """
    if sys.platform == "darwin":
        options = _USER_INITIATED if mac_too else _USER_INITIATED & ~_IDLE_SYSTEM_SLEEP_DISABLED
        try:
            _begin_activity(reason, options)
        except (OSError, AttributeError):
            _log.warning("macOS may put this process to rest", exc_info=True)


def _begin_activity(reason: str, options: int) -> None:
    ctypes.CDLL("/System/Library/Frameworks/Foundation.framework/Foundation")
    objc = ctypes.CDLL("/usr/lib/libobjc.A.dylib")
    for function in (objc.objc_getClass, objc.sel_registerName):
        function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_void_p
    address = ctypes.cast(objc.objc_msgSend, ctypes.c_void_p).value
    assert address is not None

    def send(receiver: int, message: bytes, *arguments: object, types: tuple[type, ...] = ()) -> int:
        # It must be called as the method is declared: on Apple silicon other arguments go elsewhere.
        method = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, *types)(address)
        made: int = method(receiver, objc.sel_registerName(message), *arguments)
        return made

    text = send(objc.objc_getClass(b"NSString"), b"stringWithUTF8String:", reason.encode(), types=(ctypes.c_char_p,))
    process = send(objc.objc_getClass(b"NSProcessInfo"), b"processInfo")
    types = (ctypes.c_uint64, ctypes.c_void_p)
    activity = send(process, b"beginActivityWithOptions:reason:", options, text, types=types)
    send(activity, b"retain")  # it ends when it is let go
