"""The fixture that runs a kernel's Metal text on the host in every way."""

from tests.metal_host.fixtures import on_metal_host  # noqa: F401
