"""The whole window over an engine that has a fault."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.engine.command import engine_command
from app.main import Program
from app.paths import default_paths
from tests.ui.conftest import driver
from tests.ui.window_driver import Driver

__all__ = ["driver"]


@pytest.fixture
def program_of(loop, tmp_path):
    made = []
    starter = tmp_path / "starter"
    starter.mkdir()

    def make(command: Sequence[str] = engine_command("fake")) -> Program:
        made.append(Program(default_paths(), command, starter))
        return made[-1]

    yield make
    for program in made:
        program.window.close()
        loop.run_until_complete(program.close())
        program.window.deleteLater()


class FaultyDriver(Driver):
    """Drives a window over an engine that has one fault; `marker` exists once that has happened."""

    def __init__(self, loop, program_of, stage: str, fault: str, marker: Path) -> None:
        command = [sys.executable, "-m", "tests.faults.faulty_engine", stage, fault, str(marker)]
        super().__init__(loop, program_of(command))
        self.marker = marker


@pytest.fixture
def driver_of(loop, program_of, tmp_path):
    """A window over an engine that has one fault at a stage, and is healthy once restarted."""

    def make(stage: str, fault: str) -> FaultyDriver:
        driver = FaultyDriver(loop, program_of, stage, fault, tmp_path / "marker")
        driver.program.start()
        return driver

    return make
