// Second pass: the partial sums of one query vector to its result, un-rotated.
//
// Launch: threadgroups (V, B) of SIMDS * 32 threads, D at least, V = HQ * L vectors of each batch.
// Inputs: sums float [B, V, nb, D], parts float [B, V, nb, 2] (attend), nb at most MAX_BLOCKS; table as in append.
// Output: result [B, HQ, L, D] T.
  constexpr int H = D / 64;
  constexpr int FOURS = D == 256 ? 2 : 1;    // a lane loads two or four neighbours of a row at once
  constexpr int LOAD = D / 32 / FOURS;
  constexpr int CHUNKS = MAX_BLOCKS / 32;
  constexpr int EARLY = MAX_BLOCKS / SIMDS < 8 ? MAX_BLOCKS / SIMDS : 8;  // asked for before their weights are known
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
  const device float* mine = sums + base * D + LOAD * lane;
  float early[EARLY][LOAD * FOURS];
  #pragma unroll
  for (int u = 0; u < EARLY; u++) {
    const int b = min(simd + u * SIMDS, blocks - 1);
    load_neighbours<LOAD, FOURS>(early[u], mine + b * D);
  }
  float tops[CHUNKS];
  float shares[CHUNKS];
  #pragma unroll
  for (int u = 0; u < CHUNKS; u++) {
    const size_t at = 2 * (base + min(u * 32 + lane, blocks - 1));
    tops[u] = parts[at];
    shares[u] = parts[at + 1];
  }
  // H SIMD-groups un-rotate the row, one result a lane.
  const int part = simd % H;
  float cosines[6];
  float sines[6];
  float half_cosines[H];
  float half_sines[H];
  float2 sign;
  float2 mean;
  load_twiddles<H, H>(table, part, lane, cosines, sines);
  load_inverse_constants<H, H, MU>(table, 3 * D + (HK + kv_head) * D, part, lane, half_cosines, half_sines, &sign, &mean);
  const float lambda = LAMBDA ? table[3 * D + (MU ? 2 * HK * D : 0) + (HK + kv_head) * D + min(thread_id, D - 1)] : 1.0f;
  // Every SIMD-group works out all weights: that is cheaper than to wait for one that does.
  float top = tops[0];
  #pragma unroll
  for (int u = 1; u < CHUNKS; u++) top = max(top, tops[u]);
  top = simd_max(top);
  float weights[CHUNKS];
  float whole = 0.0f;
  #pragma unroll
  for (int u = 0; u < CHUNKS; u++) {
    weights[u] = u * 32 + lane < blocks ? fast::exp2(tops[u] - top) : 0.0f;
    whole += weights[u] * shares[u];
  }
  whole = simd_sum(whole);
  float x[LOAD * FOURS];
  #pragma unroll
  for (int j = 0; j < LOAD * FOURS; j++) x[j] = 0.0f;
  #pragma unroll
  for (int u = 0; u < MAX_BLOCKS / SIMDS; u++) {
    const int b = simd + u * SIMDS;
    const float w = simd_shuffle(weights[u * SIMDS / 32], b & 31);
    if (b < blocks) {
      if (u >= EARLY) load_neighbours<LOAD, FOURS>(early[0], mine + b * D);
      #pragma unroll
      for (int j = 0; j < LOAD * FOURS; j++) x[j] += w * early[u < EARLY ? u : 0][j];
    }
  }
  #pragma unroll
  for (int j = 0; j < LOAD * FOURS; j++) totals[simd * D + j / LOAD * 32 * LOAD + LOAD * lane + j % LOAD] = x[j];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (thread_id < D) {
    float total = 0.0f;
    #pragma unroll
    for (int s = 0; s < SIMDS; s++) total += totals[s * D + thread_id];
    total = total / whole;
    row[thread_id] = LAMBDA ? total / lambda : total;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simd < H) {
    float re;
    float im;
    inverse_srft_lanes<H, H>(row, &re, &im, half_cosines, half_sines, cosines, sines, part, lane);
    const size_t at = (size_t)(batch * VECTORS + vector) * D + 2 * packed_at<H, H>(0, part, lane);
    result[at] = (T)(re * sign.x + mean.x);
    result[at + 1] = (T)(im * sign.y + mean.y);
  }
