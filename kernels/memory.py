"""How MLX says that memory does not suffice: in the text of a RuntimeError, and nowhere else."""

_SAID = ("alloc", "insufficient memory", "out of memory", "outofmemory")
"""Of the allocator (`[malloc] Unable to allocate ...`, `[metal::malloc] ...`), of a Metal command buffer
(`Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)`) and of CUDA."""


def is_want_of_memory(error: BaseException) -> bool:
    """Return whether `error` is MLX's way to say that memory does not suffice."""
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)
