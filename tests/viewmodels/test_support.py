from pathlib import Path

import pytest

from app.paths import Paths
from app.viewmodels.support import Support
from tests.stats.test_export import MACHINE


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path, tmp_path, tmp_path)


def test_a_report_is_written_told_and_found(qtbot, paths: Paths) -> None:
    support = Support(paths, lambda: MACHINE, lambda: ["Tell me a secret"])
    assert support.last_report is None
    with qtbot.waitSignal(support.changed):
        path = support.report("The engine stopped: aborted.", "it said: Tell me a secret")
    assert path == support.last_report
    text = path.read_text()
    assert f"MLX: {MACHINE.mlx_version}" in text
    assert "secret" not in text


def test_without_a_folder_nothing_is_raised(qtbot, paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    gone = Paths(paths.data, paths.config, paths.cache, paths.logs / "missing")
    assert Support(gone, lambda: None, list).report("It broke.", "") is None
    assert "no crash report" in caplog.text


@pytest.mark.parametrize(("fault", "is_reported"), [("", False), (" \n", False), ("Fatal Python error: Aborted", True)])
def test_a_fault_of_the_last_run_becomes_a_report(qtbot, paths: Paths, fault: str, is_reported: bool) -> None:
    support = Support(paths, lambda: None, list)
    assert support.report_fault(paths.fault_file) is None, "there is no file yet"
    paths.fault_file.write_text(fault)
    path = support.report_fault(paths.fault_file)
    assert (path is not None) == is_reported
    if path is not None:
        assert "Fatal Python error: Aborted" in path.read_text()
