"""`python -m kernels.bench`: checks the fused kernels, then times them beside MLX's own bf16 cache and attention."""
