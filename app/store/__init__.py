"""Conversations and messages in SQLite."""
