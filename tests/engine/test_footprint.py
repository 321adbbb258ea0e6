import ctypes
import mmap
import sys
from pathlib import Path

import pytest

from app.engine import footprint
from app.engine.footprint import FOOTPRINT, PEAK_RESIDENT, RESIDENT, process_footprint


def test_a_process_counts_what_it_takes() -> None:
    before, measure = process_footprint()
    assert measure == (FOOTPRINT if sys.platform == "darwin" else RESIDENT)
    # Pages of its own: a list or bytearray may lie where something was freed before.
    with mmap.mmap(-1, 64_000_000) as taken:
        for at in range(0, len(taken), mmap.PAGESIZE):
            taken[at] = 1
        assert process_footprint()[0] - before > 32_000_000


def test_without_proc_the_peak_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(footprint, "_STATM", tmp_path / "statm")
    monkeypatch.setattr(footprint, "_physical_footprint", lambda: 0)
    size, measure = process_footprint()
    assert measure == PEAK_RESIDENT
    assert 1_000_000 < size < 2**40


def test_macos_is_asked_first_and_its_struct_is_laid_out_as_in_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    assert footprint._RUsageInfoV0.ri_phys_footprint.offset == 16 + 7 * 8
    assert ctypes.sizeof(footprint._RUsageInfoV0) == 16 + 10 * 8
    monkeypatch.setattr(footprint.sys, "platform", "darwin")
    monkeypatch.setattr(footprint, "_physical_footprint", lambda: 5)
    assert process_footprint() == (5, FOOTPRINT)
