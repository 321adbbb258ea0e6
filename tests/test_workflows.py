"""The workflows, as far as they can be read here: pinned, allowed little, and made of make targets."""

import importlib.util
import os
import plistlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.mac.pins import PYTHON

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


@pytest.fixture
def mac_tools(tmp_path: Path) -> Path:
    """A folder in which `make dmg` finds a Mac's programs; hdiutil fails as often as the file `busy` has lines."""
    tools = {
        "ditto": "true",
        "sleep": 'echo "$1" >> slept',
        "hdiutil": '[ "$1" = verify ] && exit; echo >> tried; [ "$(wc -l < tried)" -gt "$(wc -l < busy)" ]',
    }
    (tmp_path / "bin").mkdir()
    for name, script in tools.items():
        tool = tmp_path / "bin" / name
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    return tmp_path


@pytest.mark.parametrize(("busy", "pauses"), [(0, 0), (2, 2), (4, 4), (5, 4)])
def test_a_busy_disk_image_is_tried_again(mac_tools: Path, busy: int, pauses: int) -> None:
    (mac_tools / "busy").write_text("\n" * busy)
    path = f"{mac_tools / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = ["make", "-f", str(ROOT / "Makefile"), "IS_MAC=Darwin", "dmg"]
    done = subprocess.run(
        command, cwd=mac_tools, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is (busy < 5), done.stderr
    slept = mac_tools / "slept"
    assert len(slept.read_text().split() if slept.exists() else []) == pauses


@pytest.mark.parametrize(("version", "is_right"), [((3, 12), True), ((3, 11), False), ((3, 13), False)])
def test_a_mac_bundle_is_made_with_the_python_of_its_wheels(tmp_path: Path, version: tuple, is_right: bool) -> None:
    python = tmp_path / "python"
    change = f"import sys; sys.version_info = ({version[0]}, {version[1]}, 0)"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{change}; exec(sys.argv[1])" "$2"\n')
    python.chmod(0o755)
    command = ["make", "-f", str(ROOT / "Makefile"), "IS_MAC=Darwin", f"PYTHON={python}", "mac-python"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is is_right
    assert ("make PYTHON=python3.12 bundle" in done.stderr) is not is_right
    assert PYTHON == "3.12"


def test_an_app_that_cannot_be_signed_is_no_bundle() -> None:
    pytest.importorskip("PyInstaller")
    done = subprocess.run(["make", "--dry-run", "bundle"], cwd=ROOT, capture_output=True, text=True, check=True)
    switches = re.findall(r"(PYINSTALLER_\w+)=1", done.stdout)
    assert len(switches) == 2
    source = importlib.util.find_spec("PyInstaller.building.osx").origin
    for switch in switches:
        assert f'os.environ.get("{switch}"' in Path(source).read_text(encoding="utf-8")


def test_the_entitlements_are_a_property_list() -> None:
    found = plistlib.loads((ROOT / "resources" / "entitlements.plist").read_bytes())
    assert found == {"com.apple.security.cs.allow-unsigned-executable-memory": True}
