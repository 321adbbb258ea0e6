"""What macOS is told so that a process whose window is covered runs on."""

import sys

import pytest

from app import awake


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    activities: list[tuple[str, int]] = []
    monkeypatch.setattr(awake, "_begin_activity", lambda *activity: activities.append(activity))
    return activities


def test_on_a_mac_an_activity_is_begun(begun: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are those of NSProcessInfo.h: user initiated, allowing and not allowing idle system sleep."""
    monkeypatch.setattr(sys, "platform", "darwin")
    awake.stay_awake("reads")
    awake.stay_awake("downloads", mac_too=True)
    assert begun == [("reads", 0x00EFFFFF), ("downloads", 0x00FFFFFF)]


def test_elsewhere_nothing_is_asked_for(begun: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    awake.stay_awake("reads")
    assert begun == []


def test_a_system_that_knows_no_activities_costs_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(awake.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    awake.stay_awake("reads")
    assert "may put this process to rest" in caplog.text
