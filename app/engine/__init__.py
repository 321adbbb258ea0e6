"""Inference: knows MLX and mlx-lm, knows neither Qt nor SQLite. Spoken to through `protocol` alone."""
