"""Where a markdown text that still grows can be cut: what is before will look the same whatever comes."""

import re

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_NEW_BLOCK = re.compile(r"[^\W\d_]|[\"'“(`]|\*\*|#{1,6} |~~~")
"""How a line begins that goes on with no list, quotation or table before it."""


_DEFINITION = re.compile(r"^ {0,3}\[[^\]\n]+\]:", re.MULTILINE)


def has_definitions(text: str) -> bool:
    """Tell whether the address of a link may stand elsewhere than the link."""
    return _DEFINITION.search(text) is not None


def settled_length(text: str) -> int:
    """Return the length of the beginning of `text` that is finished: it ends at a blank line, outside of code.

    A link whose address is defined further below is not waited for: see `has_definitions`.
    """
    settled, position, fence, after_blank = 0, 0, "", False
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence) and not found[2].strip():
                fence = ""
        else:
            if after_blank and line.endswith("\n") and _NEW_BLOCK.match(line):
                settled = position
            if found and (found[1][0] == "~" or "`" not in found[2]):
                fence = found[1]
        after_blank = not line.strip()
        position += len(line)
    return settled
