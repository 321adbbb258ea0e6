"""The import rule of ARCHITECTURE.md, and what the names of our packages must not set off."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers.utils import is_kernels_available

ROOT = Path(__file__).parent.parent


def test_imports_run_the_way_the_contracts_say() -> None:
    """In a process of its own: called here, import-linter would silence every logger of ours for the tests after it."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_transformers_does_not_take_our_kernels_for_hugging_faces() -> None:
    assert not is_kernels_available()


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("app.__main__", ["PySide6", "mlx", "numpy", "app.main", "app.headless", "app.engine.process"]),
        ("app.engine.command", ["PySide6", "mlx"]),
        ("app.engine.process", ["PySide6", "mlx", "sqlite3"]),
        ("app.engine.fake_engine", ["PySide6", "mlx", "sqlite3"]),
        ("app.headless", ["PySide6", "mlx", "sqlite3"]),
        ("app.viewmodels.engine_client", ["mlx", "kernels", "transformers"]),
        ("app.main", ["mlx", "kernels", "transformers"]),
    ],
)
def test_a_process_imports_only_what_it_needs(module: str, unwanted: list[str]) -> None:
    code = f"import sys, {module}\nprint(*sorted(set({unwanted}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
