import re

import pytest

from app import __version__
from tests.release_notes import CHANGELOG, ReleaseError, notes, section

TEXT = """# Changelog

## [Unreleased]

- Something.

## [0.2.0] - 2026-12-01

### Added

- Downloads, see [0.1.0] for more.

## [0.1.0]

- The first.

## [0.0.1] - 2026-01-01
"""


def test_the_section_of_a_version_is_its_text_alone() -> None:
    assert section(TEXT, "0.2.0") == "### Added\n\n- Downloads, see [0.1.0] for more.\n"


@pytest.mark.parametrize(
    ("version", "words"),
    [("0.1.0", "no date"), ("0.0.1", "says nothing"), ("0.3.0", "no section"), ("0.2", "no section")],
)
def test_a_release_that_is_not_ready_is_refused(version: str, words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        section(TEXT, version)


def test_the_tag_is_the_versions() -> None:
    assert notes(TEXT, "0.2.0", "v0.2.0") == notes(TEXT, "0.2.0", None)
    for tag in ("v0.2.1", "0.2.0"):
        with pytest.raises(ReleaseError, match=r"is not v0\.2\.0"):
            notes(TEXT, "0.2.0", tag)


def test_our_changelog_can_become_a_release() -> None:
    changelog = CHANGELOG.read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog or f"## [{__version__}]" in changelog
    dated = changelog.replace("## [Unreleased]", f"## [{__version__}] - 2026-12-01")
    assert re.match(r"### Added\n", section(dated, __version__))
