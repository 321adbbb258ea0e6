"""The fixture that runs a test's kernels on the host in every way."""

from tests.metal_host.fixtures import on_metal_host  # noqa: F401
