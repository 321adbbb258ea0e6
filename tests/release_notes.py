"""The notes of a release: `python -m tests.release_notes [TAG]` prints the version's section of CHANGELOG.md."""

import argparse
import re
import sys
from pathlib import Path

from app import __version__

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
_HEADING = re.compile(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?\s*$", re.MULTILINE)


class ReleaseError(Exception):
    """The release is not ready: the message says why."""


def section(changelog: str, version: str) -> str:
    """Return what stands under the heading of `version`; raises ReleaseError without heading, date or text."""
    headings = list(_HEADING.finditer(changelog))
    for number, heading in enumerate(headings):
        if heading[1] == version:
            if heading[2] is None:
                raise ReleaseError(f"CHANGELOG.md has no date for {version}: write ## [{version}] - YYYY-MM-DD")
            end = headings[number + 1].start() if number + 1 < len(headings) else len(changelog)
            text = changelog[heading.end() : end].strip()
            if not text:
                raise ReleaseError(f"CHANGELOG.md says nothing of {version}.")
            return text + "\n"
    raise ReleaseError(f"CHANGELOG.md has no section for {version}: rename [Unreleased] to [{version}] - YYYY-MM-DD.")


def notes(changelog: str, version: str, tag: str | None) -> str:
    """Return the notes; raises ReleaseError also where `tag` is another version's."""
    if tag is not None and tag != f"v{version}":
        raise ReleaseError(f"The tag {tag} is not v{version}, which app/__init__.py says.")
    return section(changelog, version)


def main() -> int:
    """Print the notes; return 1 and say why where there are none."""
    parser = argparse.ArgumentParser(prog="python -m tests.release_notes", description=__doc__)
    parser.add_argument("tag", nargs="?", help="the tag that is released, checked against the version")
    try:
        print(notes(CHANGELOG.read_text(encoding="utf-8"), __version__, parser.parse_args().tag), end="")
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
