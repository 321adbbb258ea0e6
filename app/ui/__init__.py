"""Widgets: no SQL, no MLX, no arithmetic."""
