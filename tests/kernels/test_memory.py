"""Which errors of MLX are want of memory."""

import pytest

from kernels.memory import is_want_of_memory

GPU = "[METAL] Command buffer execution failed: "


@pytest.mark.parametrize(
    "text",
    [
        "[malloc] Unable to allocate 12884901888 bytes.",
        "[metal::malloc] Attempting to allocate 40 bytes which is greater than the maximum allowed buffer size",
        GPU + "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
        "cudaMallocAsync(&data, size, stream) failed: out of memory",
    ],
)
def test_want_of_memory_is_told_from_its_words(text: str) -> None:
    assert is_want_of_memory(RuntimeError(text))
    assert not is_want_of_memory(ValueError(text))


@pytest.mark.parametrize("text", [GPU + "Caused GPU Timeout Error", "[load] Cannot open the file"])
def test_other_errors_are_not(text: str) -> None:
    assert not is_want_of_memory(RuntimeError(text))
