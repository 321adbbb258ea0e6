// Codes back to keys and values, up to their rounding, a threadgroup for each row: any even D.
//
// Launch: as append_row.
// Inputs: codes uint [2, B, HK, S, W], scales half [2, B, HK, S, N], both dense along the last axis and strided as they
//   like along the others; table as in append_rows. ROOM: as in dequantize_rows.
// Output: expanded [2, B, HK, S, D] T, with ROOM [2, B, HK, S + free, D].
  SHARED(float, row, D);
  SHARED(float, spectrum, (N1 / 2 + 1) * (D / N1) * 2);
  SHARED(float, roots, 2 * D);
  const int d = thread_index_in_threadgroup;
  const size_t token = threadgroup_position_in_grid.x;
  const size_t head = threadgroup_position_in_grid.y;
  const int B = codes_shape[1];
#if ROOM
  const int all = codes_shape[3] + after_shape[2];
#else
  const int all = codes_shape[3];
#endif
  const size_t which = (int)threadgroup_position_in_grid.z / B;
  const size_t batch = (int)threadgroup_position_in_grid.z % B;
  const size_t codes_at =
      which * codes_strides[0] + batch * codes_strides[1] + head * codes_strides[2] + token * codes_strides[3];
  const size_t scales_at =
      which * scales_strides[0] + batch * scales_strides[1] + head * scales_strides[2] + token * scales_strides[3];
  const int constants = 3 * D + ((int)which * HK + (int)head) * D;
  if (d < D) {
    roots[d] = table[d];
    roots[D + d] = table[D + d];
    const int code = (int)(codes[codes_at + d / 8] >> (4 * (d & 7)) & 15u) - 8;
    float x = (float)scales[scales_at + d / G] * (float)code;
    if (LAMBDA) x = x / table[constants + (MU ? 2 * HK * D : 0) + d];
    row[d] = x;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  inverse_srft<D, N1, THREADS>(row, spectrum, roots, d);
  if (d < D) {
    float y = row[d] * table[2 * D + d];
    if (SMOOTH && which == 0) y *= table[3 * D + ((MU ? 2 : 0) + (LAMBDA ? 2 : 0)) * HK * D + (int)head * D + d];
    if (MU) y += table[constants + d];
    expanded[(((size_t)threadgroup_position_in_grid.z * HK + head) * all + token) * D + d] = (T)y;
  }
