"""Figures of the session's replies, and their export."""
