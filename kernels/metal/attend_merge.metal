// Second pass: the partial sums of one query vector to its result, un-rotated.
//
// Launch: threadgroups (V, B) of SIMDS * 32 threads, V = HQ * L vectors of each batch.
// Inputs: sums float [B, V, nb, D], parts float [B, V, nb, 2] (attend), nb at most MAX_BLOCKS; table as in append.
// Output: result [B, HQ, L, D] T.
  constexpr int R = D / 32;
  constexpr int H = D / 64;
  constexpr int CHUNKS = MAX_BLOCKS / 32;
  constexpr int EARLY = MAX_BLOCKS / SIMDS < 8 ? MAX_BLOCKS / SIMDS : 8;                   // rows of a SIMD-group that are asked for before their weights are known
  SHARED(float, totals, SIMDS * D);
  SHARED(float, row, D);
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const int thread_id = thread_index_in_threadgroup;
  const int vector = threadgroup_position_in_grid.x;
  const int batch = threadgroup_position_in_grid.y;
  const int kv_head = vector / (VECTORS / HK);
  const int blocks = parts_shape[2];
  const size_t base = (size_t)(batch * VECTORS + vector) * blocks;
  const device float* mine = sums + base * D + lane;
  float early[EARLY][R];
  #pragma unroll
  for (int u = 0; u < EARLY; u++) {
    const int b = min(simd + u * SIMDS, blocks - 1);
    #pragma unroll
    for (int j = 0; j < R; j++) early[u][j] = mine[b * D + j * 32];
  }
  float weights[CHUNKS];
  float top = -3.0e38f;
  #pragma unroll
  for (int u = 0; u < CHUNKS; u++) {
    const int b = u * 32 + lane;
    weights[u] = b < blocks ? parts[(base + b) * 2] : -3.0e38f;
    top = max(top, weights[u]);
  }
  float cosines[2 * H + 3];
  float sines[2 * H + 3];
  load_twiddles<H>(table, lane, cosines, sines);
  // Every SIMD-group works out all weights: that is cheaper than to wait for one that does.
  top = simd_max(top);
  float whole = 0.0f;
  #pragma unroll
  for (int u = 0; u < CHUNKS; u++) {
    const int b = u * 32 + lane;
    weights[u] = b < blocks ? fast::exp2(weights[u] - top) : 0.0f;
    whole += b < blocks ? weights[u] * parts[(base + min(b, blocks - 1)) * 2 + 1] : 0.0f;
  }
  whole = simd_sum(whole);
  float x[R];
  #pragma unroll
  for (int j = 0; j < R; j++) x[j] = 0.0f;
  #pragma unroll
  for (int u = 0; u < MAX_BLOCKS / SIMDS; u++) {
    const int b = simd + u * SIMDS;
    const float w = simd_shuffle(weights[u * SIMDS / 32], b & 31);
    if (b < blocks) {
      #pragma unroll
      for (int j = 0; j < R; j++) x[j] += w * (u < EARLY ? early[u < EARLY ? u : 0][j] : mine[b * D + j * 32]);
    }
  }
  #pragma unroll
  for (int j = 0; j < R; j++) totals[simd * D + j * 32 + lane] = x[j];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int d = thread_id; d < D; d += SIMDS * 32) {
    float total = 0.0f;
    #pragma unroll
    for (int s = 0; s < SIMDS; s++) total += totals[s * D + d];
    total = total / whole;
    if (LAMBDA) total = total / table[3 * D + (MU ? 2 * HK * D : 0) + (HK + kv_head) * D + d];
    row[d] = total;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simd == 0) {
    float re[H];
    float im[H];
    inverse_srft_lanes<H, false>(row, re, im, table, cosines, sines, lane);
    #pragma unroll
    for (int j = 0; j < H; j++) {
      const int d = 2 * (H * mirrored(lane) + j);
      const size_t at = (size_t)(batch * VECTORS + vector) * D + d;
      const int mean = 3 * D + (HK + kv_head) * D + d;
      result[at] = (T)(re[j] * table[2 * D + d] + (MU ? table[mean] : 0.0f));
      result[at + 1] = (T)(im[j] * table[2 * D + d + 1] + (MU ? table[mean + 1] : 0.0f));
    }
  }
