"""Small kernels on the emulator against NumPy, in every schedule and checked."""

import mlx.core as mx
import numpy as np
import pytest

from tests.metal_host.compiler import NoCompilerError
from tests.metal_host.fixtures import require_compiler
from tests.metal_host.launch import Traffic
from tests.metal_host.small_kernels import launch, uniform
from tests.metal_host.stand_in import metal_host

require_compiler()

TIES = 0.51  # ulp: half of one, and what float leaves


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=str)
def test_element_wise(on_metal_host, dtype):
    x = uniform(256).astype(dtype)
    source = """
      const uint i = thread_position_in_grid.x;
      out[i] = (T)(fast::exp2((float)x[i]) * (float)FACTOR);
    """
    [got] = launch(source, {"x": x}, {"out": ((256,), dtype)}, 256, 64, template=[("T", dtype), ("FACTOR", 3)])
    exact = np.exp2(np.array(x.astype(mx.float32), np.float64)) * 3
    ulp = {mx.float32: 2.0**-22, mx.float16: 2.0**-10, mx.bfloat16: 2.0**-7}[dtype]
    assert got.dtype == dtype
    assert np.all(np.abs(np.array(got.astype(mx.float32)) - exact) <= TIES * ulp * exact + 1e-6 * exact)


def test_half2_and_bfloat_arithmetic_rounds_after_each_operation(on_metal_host):
    a, b = uniform(64, seed=1).astype(mx.float16), uniform(64, seed=2).astype(mx.float16)
    source = """
      const uint i = thread_position_in_grid.x;
      const half2 x = as_type<half2>(a[i]), y = as_type<half2>(b[i]);
      halves[i] = as_type<uint>(x * y + x);
      const bfloat16_t u = (bfloat16_t)(float)x.x, v = (bfloat16_t)(float)y.x;
      bfloats[i] = u * v + u;
    """
    halves, bfloats = launch(
        source,
        {"a": a.view(mx.uint32), "b": b.view(mx.uint32)},
        {"halves": ((32,), mx.uint32), "bfloats": ((32,), mx.bfloat16)},
        32,
        32,
    )
    x, y = np.array(a), np.array(b)
    fused = (x.astype(np.float64) * y + x).astype(np.float16)  # clang may contract x * y + x in one expression
    got = np.array(halves.view(mx.float16))
    assert np.all((got == x * y + x) | (got == fused))
    u, v = a[::2].astype(mx.bfloat16), b[::2].astype(mx.bfloat16)
    exact = np.array(u.astype(mx.float32), np.float64) * np.array(v.astype(mx.float32)) + np.array(u.astype(mx.float32))
    once = mx.array(exact.astype(np.float32)).astype(mx.bfloat16)
    assert mx.all((bfloats == u * v + u) | (bfloats == once)).item()


@pytest.mark.parametrize("dtype", [mx.float32, mx.int32], ids=str)
def test_simd_reductions_and_shuffles(on_metal_host, dtype):
    x = (uniform(64) * 1000).astype(dtype)
    source = """
      const uint i = thread_position_in_grid.x;
      const ushort lane = (ushort)thread_index_in_simdgroup;
      const T v = x[i];
      out[i] = simd_sum(v);
      out[64 + i] = simd_max(v);
      out[128 + i] = simd_min(v);
      out[192 + i] = simd_shuffle_xor(v, (ushort)5);
      out[256 + i] = simd_shuffle(v, (ushort)(31 - lane));
      out[320 + i] = simd_broadcast(v, (ushort)7);
      out[384 + i] = simd_shuffle_down(v, (ushort)1);
      out[448 + i] = simd_shuffle_up(v, (ushort)2);
    """
    [got] = launch(source, {"x": x}, {"out": ((8, 2, 32), dtype)}, 64, 64, template=[("T", dtype)])
    groups = np.array(x).reshape(2, 32)
    lanes = np.arange(32)
    np.testing.assert_allclose(np.array(got)[0], np.repeat(groups.sum(1, keepdims=True), 32, 1), rtol=1e-6, atol=1e-3)
    expected = [
        np.repeat(groups.max(1, keepdims=True), 32, 1),
        np.repeat(groups.min(1, keepdims=True), 32, 1),
        groups[:, lanes ^ 5],
        groups[:, ::-1],
        np.repeat(groups[:, 7:8], 32, 1),
        groups[:, np.minimum(lanes + 1, 31)],
        groups[:, np.where(lanes < 2, lanes, lanes - 2)],
    ]
    np.testing.assert_array_equal(np.array(got)[1:], np.stack(expected))


TRANSPOSE = """
  SHARED(float, tile, 16 * 17);
  const uint3 at = thread_position_in_threadgroup;
  const uint3 group = threadgroup_position_in_grid;
  tile[at.y * 17 + at.x] = x[(group.y * 16 + at.y) * x_shape[1] + group.x * 16 + at.x];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  out[(group.x * 16 + at.y) * x_shape[0] + group.y * 16 + at.x] = tile[at.x * 17 + at.y];
"""


def transpose(x: mx.array, source: str = TRANSPOSE) -> mx.array:
    kernel = mx.fast.metal_kernel("transpose", ["x"], ["out"], source)
    rows, columns = x.shape
    return kernel(
        inputs=[x],
        output_shapes=[(columns, rows)],
        output_dtypes=[mx.float32],
        grid=(columns, rows, 1),
        threadgroup=(16, 16, 1),
    )[0]


def test_threadgroup_transpose(on_metal_host):
    x = uniform(32, 48)
    np.testing.assert_array_equal(np.array(transpose(x)), np.array(x).T)
    assert on_metal_host.last.threadgroup_bytes == 16 * 17 * 4
    assert on_metal_host.last.barriers == 2 * 3


def test_simdgroup_barrier_orders_one_simdgroup(on_metal_host):
    x = uniform(64)
    source = """
      SHARED(float, row, 64);
      const uint i = thread_index_in_threadgroup;
      row[i] = x[i];
      simdgroup_barrier(mem_flags::mem_threadgroup);
      float sum = 0.0f;
      for (uint k = 0; k < 32; k++) sum += row[(i & ~31u) + k];
      simdgroup_barrier(mem_flags::mem_threadgroup);
      row[i] = sum;
      simdgroup_barrier(mem_flags::mem_threadgroup);
      out[i] = row[i ^ 1u];
    """
    [got] = launch(source, {"x": x}, {"out": ((2, 32), mx.float32)}, 64, 64)
    sums = np.array(x).reshape(2, 32).sum(1, keepdims=True)
    np.testing.assert_allclose(np.array(got), np.repeat(sums, 32, 1), atol=1e-5)


def test_words_of_sixteen_bytes_and_their_traffic(on_metal_host):
    words = mx.array(np.random.default_rng(3).integers(0, 2**32, 256, np.uint32))
    source = """
      const uint i = thread_position_in_grid.x;
      const uint4 w = *(const device uint4*)(words + i * 4);
      low[i] = (w.x & 15u) + (w.y & 15u) + (w.z & 15u) + (w.w & 15u);
      high[i] = (uchar)(w.w >> 28);
    """
    low, high = launch(source, {"words": words}, {"low": ((64,), mx.uint32), "high": ((64,), mx.uint8)}, 64, 32)
    rows = np.array(words).reshape(64, 4)
    np.testing.assert_array_equal(np.array(low), (rows & 15).sum(1))
    np.testing.assert_array_equal(np.array(high), rows[:, 3] >> 28)
    if on_metal_host.build == "checked":
        assert on_metal_host.last.traffic == {
            "words": Traffic(read=1024, written=0, touched=1024),
            "low": Traffic(read=0, written=256, touched=0),
            "high": Traffic(read=0, written=64, touched=0),
        }


def test_words_from_lanes_that_data_choose_and_branches_that_a_vote_chooses(on_metal_host):
    words = np.random.default_rng(4).integers(0, 2**32, (2, 32, 2), np.uint32)
    source = """
      const uint i = thread_position_in_grid.x;
      const uint2 w = *(const device uint2*)(words + i * 2);
      const int from = (int)(w.x & 31u);
      float sum = 0.0f;
      if (simd_any(w.y == (uint)wanted[0])) sum = simd_sum(1.0f);
      out[i] = simd_shuffle(w.y, from);
      out[64 + i] = as_type<uint>(simd_shuffle(as_type<float>(w.x & 0x7fffffu), from));
      out[128 + i] = (uint)sum + (simd_all(w.y != (uint)wanted[0]) ? 1u : 0u);
    """
    words[:, :, 1] >>= 1
    wanted = mx.array([int(words[1, 9, 1])], mx.int32)
    [got] = launch(source, {"words": mx.array(words), "wanted": wanted}, {"out": ((3, 2, 32), mx.uint32)}, 64, 64)
    from_lane = (words[..., 0] & 31).astype(np.int64)
    shuffled = [np.take_along_axis(words[..., 1], from_lane, 1)]
    shuffled.append(np.take_along_axis(words[..., 0] & 0x7FFFFF, from_lane, 1))
    np.testing.assert_array_equal(np.array(got)[:2], np.stack(shuffled))
    np.testing.assert_array_equal(np.array(got)[2], np.repeat([[1], [32]], 32, 1))


def test_strides_initial_values_and_helpers(on_metal_host):
    x = mx.arange(96, dtype=mx.int32).reshape(8, 12)[1:7:2, 2:10]
    source = """
      const uint i = thread_position_in_grid.x;
      if (i < 24) out[i] = doubled(x, (long)(i / 8) * (long)x_strides[0] + (long)(i % 8) * (long)x_strides[1]);
    """
    header = "inline int doubled(const device int* p, long at) { return 2 * p[at]; }\n"
    for contiguous in (True, False):
        [got] = launch(
            source, {"x": x}, {"out": ((32,), mx.int32)}, 32, 32, header=header, contiguous=contiguous, init_value=-1
        )
        np.testing.assert_array_equal(np.array(got)[:24], 2 * np.array(x).ravel())
        np.testing.assert_array_equal(np.array(got)[24:], -1)


def test_a_kernel_made_in_one_block_runs_in_the_next_as_that_one_says():
    real = mx.fast.metal_kernel
    with metal_host("fast"):
        kernel = mx.fast.metal_kernel(
            "copy", ["x"], ["out"], "out[thread_position_in_grid.x] = x[thread_position_in_grid.x];"
        )
    call = {"output_shapes": [(32,)], "output_dtypes": [mx.float32], "grid": (32, 1, 1), "threadgroup": (32, 1, 1)}
    with metal_host("checked") as host:
        kernel(inputs=[mx.ones((32,))], **call)
        assert host.last.traffic["x"].read == 128
    assert mx.fast.metal_kernel is real
    with pytest.raises(RuntimeError, match="outside"):
        kernel(inputs=[mx.ones((32,))], **call)


def test_missing_compiler_skips_or_fails_as_asked(monkeypatch):
    def none_found() -> str:
        raise NoCompilerError("the Metal kernels were NOT run")

    monkeypatch.setattr("tests.metal_host.fixtures.find_compiler", none_found)
    monkeypatch.delenv("NIBBLE_REQUIRE_METAL_HOST", raising=False)
    with pytest.raises(pytest.skip.Exception, match="NOT run"):
        require_compiler()
    monkeypatch.setenv("NIBBLE_REQUIRE_METAL_HOST", "1")
    with pytest.raises(pytest.fail.Exception, match="NOT run"):
        require_compiler()
