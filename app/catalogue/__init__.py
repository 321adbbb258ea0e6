"""Models: which there are, which are on this machine, and how they get here. Knows no Qt and no MLX."""
