"""Kernels with one defect each: the emulator must name it, and where it is."""

import mlx.core as mx
import numpy as np
import pytest

from tests.metal_host.compiler import Build, CompileError
from tests.metal_host.fixtures import require_compiler
from tests.metal_host.launch import KernelError
from tests.metal_host.small_kernels import launch, uniform
from tests.metal_host.stand_in import metal_host

require_compiler()


def run_small(source: str, build: Build = "checked", threads: int = 64) -> np.ndarray:
    """Run a defect on `x`, 64 floats, into `out`, as many."""
    with metal_host(build):
        [got] = launch(source, {"x": uniform(64)}, {"out": ((64,), mx.float32)}, threads, 64)
    return np.array(got)


RACES = {
    "no barrier": """
      SHARED(float, part, 64);
      const uint i = thread_index_in_threadgroup;
      part[i] = x[i];
      out[i] = part[63 - i];""",
    "a SIMD-group's barrier between two SIMD-groups": """
      SHARED(float, part, 64);
      const uint i = thread_index_in_threadgroup;
      part[i] = x[i];
      simdgroup_barrier(mem_flags::mem_threadgroup);
      out[i] = part[63 - i];""",
    "a barrier for the other memory": """
      SHARED(float, part, 64);
      const uint i = thread_index_in_threadgroup;
      part[i] = x[i];
      threadgroup_barrier(mem_flags::mem_device);
      out[i] = part[63 - i];""",
    "written while others still read": """
      SHARED(float, part, 64);
      const uint i = thread_index_in_threadgroup;
      part[i] = x[i];
      threadgroup_barrier(mem_flags::mem_threadgroup);
      const float other = part[63 - i];
      part[i] = other;
      out[i] = other;""",
    "every lane writes the sum": """
      SHARED(float, part, 2);
      part[simdgroup_index_in_threadgroup] = simd_sum(x[thread_index_in_threadgroup]);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      out[thread_index_in_threadgroup] = part[0] + part[1];""",
    "two threads write one output": """
      out[thread_index_in_threadgroup / 2] = x[thread_index_in_threadgroup];""",
}


@pytest.mark.parametrize("source", RACES.values(), ids=RACES)
def test_race(source):
    with pytest.raises(KernelError, match=r"line \d+: byte \d+ of .*race: ") as caught:
        run_small(source)
    assert "generated.metal:" in str(caught.value)


def test_race_between_threadgroups():
    source = """
      out[threadgroup_position_in_grid.x] = 0.0f;
      threadgroup_barrier(mem_flags::mem_device);
      out[0] = x[0];"""
    with metal_host("checked"), pytest.raises(KernelError, match="race: written, and written by another"):
        launch(source, {"x": uniform(64)}, {"out": ((2,), mx.float32)}, 64, 32)


OUT_OF_BOUNDS = {
    "read of an input": "out[thread_position_in_grid.x] = x[thread_position_in_grid.x + 1];",
    "read before an input": "const int i = (int)thread_position_in_grid.x; out[i] = x[i - 1];",
    "write to an output": "out[thread_position_in_grid.x + 1] = x[thread_position_in_grid.x];",
    "read of a thread's array": """
      const uint i = thread_position_in_grid.x;
      float mine[4] = {x[i], x[i], x[i], x[i]};
      out[i] = mine[i & 7u];""",
    "read past a threadgroup array": """
      SHARED(float, part, 64);
      const uint i = thread_index_in_threadgroup;
      part[i] = x[i];
      threadgroup_barrier(mem_flags::mem_threadgroup);
      out[i] = part[i + 8];""",
}


@pytest.mark.parametrize("source", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS)
def test_out_of_bounds(source):
    with pytest.raises(KernelError, match=r"line \d+:.* out of bounds"):
        run_small(source)


@pytest.mark.parametrize(
    "source",
    [
        "out[thread_position_in_grid.x] = x[thread_position_in_grid.x + 4096];",
        "out[thread_position_in_grid.x + 8] = x[0];",
    ],
    ids=["read", "write"],
)
def test_out_of_bounds_meets_the_guard_page_in_the_fast_build(source):
    with pytest.raises(KernelError, match="out of bounds"):
        run_small(source, "fast")


def test_write_to_an_input():
    source = "const uint i = thread_position_in_grid.x; ((device float*)x)[i] = 0.0f; out[i] = x[i];"
    for build in ("fast", "checked"):
        with pytest.raises(KernelError, match="write to an input: offset 0 of buffer `x`"):
            run_small(source, build)


DIVERGENCE = {
    "barrier in a branch": (
        """
      const uint i = thread_index_in_threadgroup;
      if (i < 40) threadgroup_barrier(mem_flags::mem_threadgroup);
      out[i] = x[i];""",
        r"lanes 000000ff wait at the threadgroup_barrier of line \d+.*lanes ffffff00 have returned",
    ),
    "two barriers": (
        """
      const uint i = thread_index_in_threadgroup;
      if (i < 32) { threadgroup_barrier(mem_flags::mem_threadgroup); }
      else { threadgroup_barrier(mem_flags::mem_threadgroup); }
      out[i] = x[i];""",
        "this one came to that of line",
    ),
    "sum in a branch": (
        """
      const uint i = thread_index_in_threadgroup;
      float s = x[i];
      if (i % 32 < 16) s = simd_sum(s);
      out[i] = s;""",
        r"lanes 0000ffff wait in a reduction at line \d+.*lanes ffff0000 have returned",
    ),
    "two different sums": (
        """
      const uint i = thread_index_in_threadgroup;
      out[i] = i % 2 == 0 ? simd_sum(x[i]) : simd_max(x[i]);""",
        "this lane came to a reduction",
    ),
    "sum after an early return": (
        """
      const uint i = thread_index_in_threadgroup;
      if (i == 5) return;
      out[i] = simd_sum(x[i]);""",
        r"lanes ffffffdf wait in a reduction at line \d+.*lanes 00000020 have returned",
    ),
}


@pytest.mark.parametrize("build", ["fast", "checked"])
@pytest.mark.parametrize(("source", "message"), DIVERGENCE.values(), ids=DIVERGENCE)
def test_divergence(source, message, build):
    with pytest.raises(KernelError, match=f"divergence: .*{message}"):
        run_small(source, build)


def test_misaligned_words():
    source = """
      const uint i = thread_position_in_grid.x;
      out[i] = (float)(*(const device uint4*)((const device uint*)x + 1 + (i % 2))).x;"""
    with pytest.raises(KernelError, match=r"line \d+: misaligned read"):
        run_small(source)


def test_packs_in_an_array_of_floats():
    source = """
      SHARED(float, part, 64);
      const uint i = thread_index_in_threadgroup;
      part[i] = x[i];
      threadgroup_barrier(mem_flags::mem_threadgroup);
      out[i] = (*(threadgroup float4*)(part + i / 4 * 4)).x;"""
    with pytest.raises(KernelError, match=r"line \d+: misaligned read"):
        run_small(source)


def test_lane_that_does_not_exist():
    with pytest.raises(KernelError, match=r"line \d+:\d+: asks for lane 33"):
        run_small("out[thread_position_in_grid.x] = simd_shuffle(x[thread_position_in_grid.x], (ushort)33);", "fast")


UNWRITTEN = {
    "output": "const uint i = thread_position_in_grid.x; if (i % 2 == 0) out[i] = x[i];",
    "threadgroup array": """
      SHARED(float, part, 64);
      const uint i = thread_index_in_threadgroup;
      if (i % 2 == 0) part[i] = x[i];
      threadgroup_barrier(mem_flags::mem_threadgroup);
      out[i] = part[i];""",
}


@pytest.mark.parametrize("source", UNWRITTEN.values(), ids=UNWRITTEN)
def test_what_no_one_wrote_is_nan(source):
    got = run_small(source, "fast")
    assert np.isnan(got[1::2]).all()
    np.testing.assert_array_equal(got[::2], np.array(uniform(64))[::2])


def test_reading_what_no_one_wrote_is_found():
    with pytest.raises(KernelError, match=r"threadgroup array of line \d+: read, and nothing has written it"):
        run_small(UNWRITTEN["threadgroup array"])
    with pytest.raises(KernelError, match="of buffer `out`: read, and nothing has written it"):
        run_small("const uint i = thread_position_in_grid.x; out[i] = out[i] + x[i];")


def test_too_much_threadgroup_memory():
    source = (
        "SHARED(float, part, 8193); part[thread_index_in_threadgroup] = 0.0f; out[thread_index_in_threadgroup] = 0.0f;"
    )
    with pytest.raises(KernelError, match="32784 bytes of threadgroup memory; the limit is 32768"):
        run_small(source, "fast")


NOT_METAL = {
    "wrong address space": (
        "threadgroup float* p = x; out[0] = p[0];",
        "cannot initialize a variable of type '__local",
    ),
    "no address space": ("const float* p = x; out[0] = p[0];", "line 4: .* names no address space"),
    "reference without one": ("float v = x[0]; float& w = v; out[0] = w;", "line 4: .* names no address space"),
    "constant written": ("const device float* p = x; p[0] = 1.0f;", "read-only variable"),
    "double": ("double v = 1.0; out[0] = (float)v;", "use of type 'double'"),
    "float into half unasked": ("half h = x[0]; out[0] = (float)h;", "loses floating-point precision"),
    "max of two types": ("out[0] = max(x[0], 1);", "call to 'max' is ambiguous"),
    "plain threadgroup array": (
        "threadgroup float part[64]; out[0] = part[0];",
        "cannot be declared in local address space",
    ),
    "word of Metal's own": ("const float vertex = x[0]; out[0] = vertex;", "poisoned identifier"),
    "word of OpenCL's own": ("const float local = x[0]; out[0] = local;", "error"),
    "jump": ("end: if (x[0] > 0.0f) goto end;", "poisoned identifier"),
    "loop without end": ("for (uint i = 3; i >= 0; i--) out[i] = x[i];", "always true"),
    "nothing assigned": ("float v; out[0] = v;", "is uninitialized"),
    "simd_sum of bfloat": (
        "out[0] = (float)simd_sum((bfloat16_t)x[0]);",
        "no matching function for call to 'simd_sum'",
    ),
    "too large for a thread": (
        "float big[9000]; for (int i = 0; i < 9000; i++) big[i] = x[i & 63]; out[0] = big[(int)x[1]];",
        "frame",
    ),
    "prefix sum": ("out[0] = simd_prefix_inclusive_sum(x[0]);", "undefined reference"),
    "quads": ("out[0] = (float)thread_index_in_quadgroup;", "outside the portable subset"),
}


@pytest.mark.parametrize(("source", "message"), NOT_METAL.values(), ids=NOT_METAL)
def test_does_not_compile(source, message):
    with pytest.raises(CompileError, match=message):
        run_small(source, "fast")


def test_launches_that_are_not_portable_are_refused():
    source = "out[thread_position_in_grid.x] = x[0];"
    with pytest.raises(ValueError, match="multiple of the threadgroup"):
        run_small(source, threads=96)
    with pytest.raises(ValueError, match="whole SIMD-groups"):
        run_small(source, threads=48)


def test_input_without_dimensions_is_refused():
    with metal_host(), pytest.raises(ValueError, match="`x` has no dimension"):
        launch("out[0] = x;", {"x": mx.array(1.0)}, {"out": ((1,), mx.float32)}, 32, 32)
