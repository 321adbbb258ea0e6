"""The log: what the program did, for whoever looks into a fault. Texts of conversations never go into it."""

import logging
import logging.handlers
import time

from app.paths import Paths

_FORMAT = "%(asctime)sZ %(levelname)s %(name)s: %(message)s"
_MAX_BYTES = 1_000_000
_OLD_FILES = 3


def start_logging(paths: Paths, name: str) -> None:
    """Send records to `<name>.log` in the log folder, warnings and worse to stderr as well.

    `name` tells processes apart, since two must not rotate one file: `nibble` is the window, whose file is
    `Paths.log_file`. Called again it replaces what it set up before. Where the file cannot be opened the program runs
    on with stderr alone.
    """
    root = logging.getLogger()
    for old in [h for h in root.handlers if getattr(h, "name", None) in ("nibble-file", "nibble-stderr")]:
        root.removeHandler(old)
        old.close()
    root.setLevel(logging.INFO)

    stderr = logging.StreamHandler()
    stderr.setLevel(logging.WARNING)
    _attach(stderr, "nibble-stderr")
    path = paths.logs / f"{name}.log"
    try:
        file = logging.handlers.RotatingFileHandler(
            path, maxBytes=_MAX_BYTES, backupCount=_OLD_FILES, encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        logging.getLogger(__name__).warning("no log file: %s", error)
    else:
        _attach(file, "nibble-file")


def _attach(handler: logging.Handler, name: str) -> None:
    formatter = logging.Formatter(_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.set_name(name)
    logging.getLogger().addHandler(handler)
