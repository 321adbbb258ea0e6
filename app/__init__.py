"""Nibble: a desktop chat for local language models with an int4 KV cache."""

__version__ = "0.1.0"
