"""The workflows, as far as they can be read here: pinned, allowed little, and made of make targets."""

import plistlib
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs(path: Path) -> dict[str, dict]:
    return yaml.safe_load(path.read_text())["jobs"]


def commands(path: Path) -> list[str]:
    return [step["run"] for job in jobs(path).values() for step in job["steps"] if "run" in step]


def test_there_are_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["checks", "release"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_to_a_commit(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert re.fullmatch(r" +- uses: actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_step_is_a_target_of_the_makefile(path: Path) -> None:
    asked = {re.fullmatch(r"(?:sudo )?make ([a-z-]+)", command) for command in commands(path)}
    assert None not in asked, "a step that cannot be run elsewhere"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {match[1] for match in asked if match} <= targets


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_jobs_end_and_may_only_read(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 90, name
        assert job.get("permissions", {}) in ({}, {"contents": "write"})
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "an expression in a shell's command can be made to run anything"


def test_checks_do_on_a_mac_what_only_a_mac_can() -> None:
    wanted = ["kernels-check", "bundle", "bundle-test", "test", "dmg"]
    path = next(path for path in WORKFLOWS if path.stem == "checks")
    steps = [step.get("run") for step in jobs(path)["macos"]["steps"]]
    assert [f"make {name}" for name in wanted] == [step for step in steps if step]
    assert jobs(path)["macos"]["runs-on"] == "macos-15"


@pytest.mark.parametrize("target", ["run", "test", "bundle", "bundle-test", "release-notes", "screenshots"])
def test_targets_can_be_made_as_far_as_make_can_tell(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_needs_a_mac_says_so_elsewhere() -> None:
    if subprocess.run(["uname", "-s"], capture_output=True, text=True, check=True).stdout.strip() == "Darwin":
        pytest.skip("this is a Mac")
    done = subprocess.run(["make", "--dry-run", "dmg"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "on a Mac" in done.stderr


def test_the_entitlements_are_a_property_list() -> None:
    found = plistlib.loads((ROOT / "resources" / "entitlements.plist").read_bytes())
    assert found == {"com.apple.security.cs.allow-unsigned-executable-memory": True}
