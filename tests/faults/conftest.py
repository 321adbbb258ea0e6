"""The whole window over the fake engine, as the tests of the window have it."""

from tests.ui.conftest import driver, program_of

__all__ = ["driver", "program_of"]
