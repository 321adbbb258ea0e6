"""Kernels that write an input behind MLX's back: where it is seen, and the defects that must be found."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.metal_host.fixtures import require_compiler
from tests.metal_host.launch import KernelError, Traffic
from tests.metal_host.small_kernels import launch, uniform
from tests.metal_host.stand_in import metal_host

require_compiler()

PRELUDE = (Path(__file__).parents[2] / "kernels/metal/metal_prelude.h").read_text(encoding="utf-8")

APPEND = """
  const uint i = thread_position_in_grid.x;
  const int count = position[0];
  IN_PLACE(uint, rows)[count * 32 + i] = row[i];
  if (i == 0) next[0] = count + 1;
"""


def append(rows: mx.array, row: mx.array, position: mx.array, contiguous: bool) -> mx.array:
    """Write `row` [32] into `rows` [n, 32] at `position` [1]; return the count of rows, [1], after it."""
    inputs = {"rows": rows, "row": row, "position": position}
    outputs = {"next": ((1,), mx.int32)}
    return launch(APPEND, inputs, outputs, 32, 32, header=PRELUDE, contiguous=contiguous)[0]


@pytest.mark.parametrize("contiguous", [False, True])
def test_a_row_is_appended_in_the_memory_that_was_passed(on_metal_host, contiguous):
    rows = mx.full((4, 32), 7, mx.uint32)
    last, flat = rows[2:], rows.reshape(-1).view(mx.int32)
    mx.eval(last, flat)
    position = mx.array([2], mx.int32)
    for value in (8, 9):
        position = append(rows, mx.arange(value, value + 32, dtype=mx.uint32), position, contiguous)
    assert position.tolist() == [4]
    expected = np.full((4, 32), 7)
    expected[2:] = [np.arange(8, 40), np.arange(9, 41)]
    np.testing.assert_array_equal(np.array(rows), expected)
    np.testing.assert_array_equal(np.array(last), expected[2:])
    np.testing.assert_array_equal(np.array(flat), expected.ravel())
    if on_metal_host.build == "checked":
        assert on_metal_host.last.traffic == {
            "rows": Traffic(read=0, written=128, touched=0),
            "row": Traffic(read=128, written=0, touched=128),
            "position": Traffic(read=128, written=0, touched=4),
            "next": Traffic(read=0, written=4, touched=0),
        }


def test_a_written_row_is_read_in_the_same_threadgroup_after_a_barrier(on_metal_host):
    scales = uniform(64).astype(mx.float16)
    before = np.array(scales)
    source = """
      const uint i = thread_position_in_grid.x;
      IN_PLACE(half, scales)[i] = (half)((float)scales[i] * 2.0f);
      threadgroup_barrier(mem_flags::mem_device);
      out[i] = scales[63 - i];
    """
    [out] = launch(source, {"scales": scales}, {"out": ((64,), mx.float16)}, 64, 64, header=PRELUDE)
    np.testing.assert_array_equal(np.array(scales), before * 2)
    np.testing.assert_array_equal(np.array(out), before[::-1] * 2)


READ_WHILE_WRITTEN = """
  const uint i = thread_index_in_threadgroup;
  const uint group = threadgroup_position_in_grid.x;
  if (group == 1) IN_PLACE(uint, rows)[i] = 5u;
  const uint value = rows[i];
  out[group * 32 + i] = group == 0 && LEAKS ? value : 0u;
"""


@pytest.mark.parametrize("leaks", [False, True])
def test_what_another_threadgroup_may_have_written_shows_between_schedules(leaks):
    found = []
    for build, schedule in (("checked", 0), ("checked", 2), ("fast", 0), ("fast", 2)):
        with metal_host(build, schedule):
            [out] = launch(
                READ_WHILE_WRITTEN,
                {"rows": mx.full((32,), 1, mx.uint32)},
                {"out": ((64,), mx.uint32)},
                64,
                32,
                header=PRELUDE,
                template=[("LEAKS", leaks)],
            )
        found.append(out[0].item())
    assert found == ([1, 5, 1, 5] if leaks else [0, 0, 0, 0])


def test_what_another_simdgroup_may_have_written_shows_between_schedules():
    source = """
      const uint i = thread_index_in_threadgroup;
      if (i < 32) IN_PLACE(uint, rows)[i] = 5u;
      out[i] = rows[i & 31u];
    """
    found = []
    for schedule in (0, 2):
        with metal_host("checked", schedule):
            [out] = launch(source, {"rows": mx.full((32,), 1, mx.uint32)}, {"out": ((64,), mx.uint32)}, 64, 64, PRELUDE)
        found.append(out[63].item())
    assert found == [5, 1]


RACES = {
    "two threadgroups write": "IN_PLACE(uint, rows)[thread_index_in_threadgroup] = 1u;",
    "two threads of a threadgroup write": "IN_PLACE(uint, rows)[thread_position_in_grid.x / 2] = 1u;",
}


@pytest.mark.parametrize("source", RACES.values(), ids=RACES)
@pytest.mark.parametrize("schedule", range(4))
def test_race(source, schedule):
    with (
        metal_host("checked", schedule),
        pytest.raises(KernelError, match=r"line \d+: byte \d+ of buffer `rows`: race"),
    ):
        launch(source, {"rows": mx.zeros((64,), mx.uint32)}, {"out": ((64,), mx.uint32)}, 64, 32, header=PRELUDE)


@pytest.mark.parametrize("build", ["fast", "checked"])
def test_write_past_the_end(build):
    source = "IN_PLACE(uint, rows)[thread_position_in_grid.x + 1] = 1u; out[0] = 1u;"
    with metal_host(build), pytest.raises(KernelError, match=r"out of bounds: .* buffer `rows`"):
        launch(source, {"rows": mx.zeros((32,), mx.uint32)}, {"out": ((1,), mx.uint32)}, 32, 32, header=PRELUDE)


@pytest.mark.parametrize("build", ["fast", "checked"])
def test_an_input_beside_it_stays_unwritable(build):
    rows, row = mx.zeros((32,), mx.uint32), mx.ones((32,), mx.uint32)
    source = """
      const uint i = thread_position_in_grid.x;  // not meant: IN_PLACE(uint, row)
      IN_PLACE(uint, rows)[i] = row[i];
      ((device uint*)row)[i] = 2u;
      out[i] = 0u;"""
    with metal_host(build), pytest.raises(KernelError, match="write to an input: offset 0 of buffer `row`"):
        launch(source, {"rows": rows, "row": row}, {"out": ((32,), mx.uint32)}, 32, 32, header=PRELUDE)
    np.testing.assert_array_equal(np.array(row), 1)


def test_arrays_that_cannot_be_written_in_place_are_refused():
    def write(**inputs: mx.array) -> None:
        source = "out[0] = 0u;" + "".join(f"IN_PLACE(uint, {name})[0] = 1u;" for name in inputs)
        launch(source, inputs, {"out": ((1,), mx.uint32)}, 32, 32, header=PRELUDE, contiguous=False)

    whole = mx.zeros((8, 8), mx.uint32)
    with metal_host():
        with pytest.raises(ValueError, match="`x` is written in place and must be row-contiguous"):
            write(x=whole[:, 2:4])
        with pytest.raises(ValueError, match="`x` is written in place and bfloat16"):
            write(x=mx.zeros((8,), mx.bfloat16))
        with pytest.raises(ValueError, match="share memory"):
            write(x=whole, y=whole[4:])
        with pytest.raises(ValueError, match="no input of small: rows"):
            launch("IN_PLACE(uint, rows)[0] = 1u;", {"x": whole}, {"out": ((1,), mx.uint32)}, 32, 32)
