"""One frozen folder for all tests of it: made by build.spec, or the one that `NIBBLE_FROZEN` names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the frozen program in it."""
    if made := os.environ.get("NIBBLE_FROZEN"):
        return Path(made).absolute()
    work = tmp_path_factory.mktemp("freeze")
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN", "build.spec"]
    folders = ["--distpath", str(work / "dist"), "--workpath", str(work / "build")]
    done = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return work / "dist" / "Nibble"
