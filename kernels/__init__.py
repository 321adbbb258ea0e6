"""The int4 KV cache operations: format, rotation, reference and kernels. Needs MLX only."""
