// Codes back to keys and values, up to their rounding.
//
// Launch: threadgroups (rows, HK, 2 B) of THREADS = D rounded up to 32 threads, one row each.
// Inputs: codes uint [2, B, HK, rows, W], scales half [2, B, HK, rows, N]; table as in append.
// Output: expanded [2, B, HK, rows, D] T.
  constexpr int W = (D + 7) / 8;
  constexpr int N = (D + G - 1) / G;
  SHARED(float, row, D);
  SHARED(float, spectrum, (N1 / 2 + 1) * (D / N1) * 2);
  SHARED(float, roots, 2 * D);
  const int d = thread_index_in_threadgroup;
  const int head = threadgroup_position_in_grid.y;
  const int which = (int)threadgroup_position_in_grid.z / codes_shape[1];
  const size_t vector = ((size_t)threadgroup_position_in_grid.z * HK + head) * codes_shape[3] + threadgroup_position_in_grid.x;
  if (d < D) {
    roots[d] = table[d];
    roots[D + d] = table[D + d];
    const int code = (int)(codes[vector * W + d / 8] >> (4 * (d & 7)) & 15u) - 8;
    float x = (float)scales[vector * N + d / G] * (float)code;
    if (LAMBDA) x = x / table[3 * D + (MU ? 2 * HK * D : 0) + (which * HK + head) * D + d];
    row[d] = x;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  inverse_srft<D, N1, THREADS>(row, spectrum, roots, d);
  if (d < D) {
    float y = row[d] * table[2 * D + d];
    if (MU) y += table[3 * D + (which * HK + head) * D + d];
    expanded[vector * D + d] = (T)y;
  }
