// Second pass: partial sums of one query head to its result, un-rotated.
//
// Launch: threadgroups (HQ, B) of SIMDS * 32 threads, SIMDS * 32 >= D rounded up to 32.
// Inputs: sums float [B, HQ, nb, D], parts float [B, HQ, nb, 2] (attend_split); table as in append.
// Output: result [B, HQ, 1, D] T.
  constexpr int PER_LANE = D / 32;
  SHARED(float, weights, MAX_BLOCKS);
  SHARED(float, whole, 1);
  SHARED(float, totals, SIMDS * D);
  SHARED(float, row, D);
  SHARED(float, spectrum, (N1 / 2 + 1) * (D / N1) * 2);
  SHARED(float, roots, 2 * D);
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const int thread_id = thread_index_in_threadgroup;
  const int head = threadgroup_position_in_grid.x;
  const int batch = threadgroup_position_in_grid.y;
  const int kv_head = head / (HQ / HK);
  const int blocks = parts_shape[2];
  const size_t base = (size_t)(batch * HQ + head) * blocks;
  const device float* mine = sums + base * D + lane;
  // The first rows are asked for before their weights are known.
  float early[4][PER_LANE];
  #pragma unroll
  for (int u = 0; u < 4; u++) {
    const int b = min(simd + u * SIMDS, blocks - 1);
    #pragma unroll
    for (int i = 0; i < PER_LANE; i++) early[u][i] = mine[b * D + i * 32];
  }
  for (int i = thread_id; i < 2 * D; i += SIMDS * 32) roots[i] = table[i];
  if (simd == 0) {
    float most[MAX_BLOCKS / 32];
    float top = -3.0e38f;
    #pragma unroll
    for (int u = 0; u < MAX_BLOCKS / 32; u++) {
      const int b = u * 32 + lane;
      most[u] = b < blocks ? parts[(base + b) * 2] : -3.0e38f;
      top = max(top, most[u]);
    }
    top = simd_max(top);
    float total = 0.0f;
    #pragma unroll
    for (int u = 0; u < MAX_BLOCKS / 32; u++) {
      const int b = u * 32 + lane;
      const float w = fast::exp2(most[u] - top);
      weights[b] = w;
      total += b < blocks ? w * parts[(base + b) * 2 + 1] : 0.0f;
    }
    total = simd_sum(total);
    if (lane == 0) whole[0] = total;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float x[PER_LANE];
  #pragma unroll
  for (int i = 0; i < PER_LANE; i++) x[i] = 0.0f;
  #pragma unroll
  for (int u = 0; u < 4; u++) {
    const int b = simd + u * SIMDS;
    const float w = b < blocks ? weights[b < blocks ? b : 0] : 0.0f;
    #pragma unroll
    for (int i = 0; i < PER_LANE; i++) x[i] += w * early[u][i];
  }
  for (int b = simd + 4 * SIMDS; b < blocks; b += SIMDS) {
    const float w = weights[b];
    #pragma unroll
    for (int i = 0; i < PER_LANE; i++) x[i] += w * mine[b * D + i * 32];
  }
  #pragma unroll
  for (int i = 0; i < PER_LANE; i++) totals[simd * D + i * 32 + lane] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int d = thread_id; d < D; d += SIMDS * 32) {
    float total = 0.0f;
    for (int s = 0; s < SIMDS; s++) total += totals[s * D + d];
    total = total / whole[0];
    if (LAMBDA) total = total / table[3 * D + (MU ? 2 * HK * D : 0) + (HK + kv_head) * D + d];
    row[d] = total;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  inverse_srft<D, N1, SIMDS * 32>(row, spectrum, roots, thread_id);
  for (int d = thread_id; d < D; d += SIMDS * 32) {
    float y = row[d] * table[2 * D + d];
    if (MU) y += table[3 * D + (HK + kv_head) * D + d];
    result[(batch * HQ + head) * D + d] = (T)y;
  }
