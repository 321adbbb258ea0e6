"""What the documents point to is there."""

import re
from pathlib import Path

import pytest

from kernels.layout import Layout

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "kernels/README.md",
    "docs/packaging.md",
    "docs/measurements.md",
    "docs/reliability.md",
)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name: str) -> None:
    document = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("name", DOCUMENTS)
def test_targets_that_are_named_can_be_made(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"(?:`|^    )(?:sudo )?make ([a-z -]+?)(?: [A-Z]+=\S+)?(?:`|$)", text, re.MULTILINE)
    assert {target for names in named for target in names.split()} <= targets


def test_the_figure_of_the_cache_says_what_the_layout_is() -> None:
    figure = (ROOT / "docs" / "cache.svg").read_text(encoding="utf-8")
    bits = Layout(128, 32).bits_per_value
    assert f"{bits:g} bits a number" in figure
    assert f"{16 / bits:.2f} times fewer" in figure


def test_the_tests_that_promises_name_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named
    assert named <= there
