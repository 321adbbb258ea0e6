"""The whole window, started and idle."""

import pytest

from app.engine.command import engine_command
from app.main import Program
from app.paths import default_paths
from tests.ui.window_driver import Driver


@pytest.fixture
def program_of(loop, tmp_path):
    made = []
    starter = tmp_path / "starter"
    starter.mkdir()

    def make() -> Program:
        made.append(Program(default_paths(), engine_command("fake"), starter))
        return made[-1]

    yield make
    for program in made:
        program.window.close()
        loop.run_until_complete(program.close())
        program.window.deleteLater()


@pytest.fixture
def driver(loop, program_of):
    driver = Driver(loop, program_of())
    driver.program.start()
    driver.until_idle()
    return driver
