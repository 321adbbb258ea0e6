"""Tooltips with texts that are not ours: Qt takes every tooltip that looks like HTML for it, and opens its images."""

import html


def plain_tooltip(text: str) -> str:
    """Return a tooltip that shows `text` as it is written."""
    if "<" not in text:
        return text
    return f"<span>{html.escape(text).replace(chr(10), '<br>')}</span>"
