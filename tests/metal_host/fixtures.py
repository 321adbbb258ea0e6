"""For tests of kernels: `from tests.metal_host.fixtures import on_metal_host  # noqa: F401` in their conftest.

A module whose tests all need the emulator calls `require_compiler()` after its imports: one line then says what was not
run, in place of one for each test.
"""

import os
from collections.abc import Iterator

import pytest

from tests.metal_host.compiler import NoCompilerError, find_compiler
from tests.metal_host.stand_in import Host, metal_host

WAYS = [("fast", 0), ("fast", 1), ("fast", 2), ("fast", 3), ("checked", 0)]
"""Every way a kernel is run: the four schedules, and once with every access checked."""


def require_compiler() -> None:
    """Skip the test or module that calls this where no compiler is; with `NIBBLE_REQUIRE_METAL_HOST=1` fail it."""
    try:
        find_compiler()
    except NoCompilerError as missing:
        if os.environ.get("NIBBLE_REQUIRE_METAL_HOST") == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing), allow_module_level=True)


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}")
def on_metal_host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Run the test once in every way, with the stand-in in place of `mx.fast.metal_kernel`."""
    require_compiler()
    build, schedule = request.param
    with metal_host(build, schedule) as host:
        yield host
