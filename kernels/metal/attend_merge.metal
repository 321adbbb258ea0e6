// Second pass: the partial sums of one query vector to its result, un-rotated.
//
// Launch: threadgroups (V, B) of SIMDS * 32 threads, D at least, V = HQ * L vectors of each batch.
// Inputs: sums float [B, V, nb, D], parts float [B, V, nb, 2] (attend), nb at most MAX_BLOCKS; table as in attend.
// Output: result [B, HQ, L, D] T.
  constexpr int PARTS = inverse_parts<D>();  // SIMD-groups that un-rotate the row
  constexpr int EACH = (D + 31) / 32;        // values of a row that a lane sums up
  constexpr int CHUNKS = (MAX_BLOCKS + 31) / 32;
  constexpr int TURNS = MAX_BLOCKS / SIMDS;  // blocks of a SIMD-group, asked for before their weights are known
  SHARED(float, totals, SIMDS * D);
  SHARED(float, row, D);
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const int thread_id = thread_index_in_threadgroup;
  const int vector = threadgroup_position_in_grid.x;
  const int batch = threadgroup_position_in_grid.y;
  const int kv_head = vector / (VECTORS / HK);
  const int blocks = parts_shape[2];
  const int base = (batch * VECTORS + vector) * blocks;
  // Maxima and weights first, which there is something to do with before the sums are there.
  float tops[CHUNKS];
  float shares[CHUNKS];
  #pragma unroll
  for (int u = 0; u < CHUNKS; u++) {
    const float2 two = *(const device float2*)(parts + 2 * (base + min(u * 32 + lane, blocks - 1)));
    tops[u] = two.x;
    shares[u] = two.y;
  }
  float shared_out[TURNS][EACH];
  #pragma unroll
  for (int u = 0; u < TURNS; u++) {
    load_share<D>(shared_out[u], sums + (base + min(simd + u * SIMDS, blocks - 1)) * D, lane);
  }
  threadgroup_barrier(mem_flags::mem_none);  // compilers ask for what comes behind one later, and wait for none before it
  const int part = simd % PARTS;
  float constants[inverse_floats<D>()];
  float2 means[points_of<D>() / PARTS];
  if (simd < PARTS) {
    load_lane<inverse_floats<D>()>(constants, table + inverse_at<D, HK, MU, LAMBDA, SMOOTH>(), part * 32 + lane, PARTS * 32);
    load_means<D, MU>(means, table + 3 * D + (HK + kv_head) * D, part, lane);
  }
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
  const float share = reciprocal(simd_sum(whole));
  float x[EACH];
  #pragma unroll
  for (int j = 0; j < EACH; j++) x[j] = 0.0f;
  #pragma unroll
  for (int u = 0; u < TURNS; u++) {
    const float w = simd_shuffle(weights[u * SIMDS / 32], (simd + u * SIMDS) & 31);  // 0 where there is no such block
    #pragma unroll
    for (int j = 0; j < EACH; j++) x[j] += w * shared_out[u][j];
  }
  #pragma unroll
  for (int j = 0; j < EACH; j++) {
    const int d = share_value<D>(j, lane);
    if (D % 32 == 0 || d < D) totals[simd * D + d] = x[j];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (thread_id < D) {
    float total = 0.0f;
    #pragma unroll
    for (int s = 0; s < SIMDS; s++) total += totals[s * D + thread_id];
    total *= share;
    row[thread_id] = LAMBDA ? total / lambda : total;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simd < PARTS) {
    float2 two[points_of<D>() / PARTS];
    inverse_srft_lanes<D>(row, two, constants, part, lane);
    put_row<D>(result + (batch * VECTORS + vector) * D, two, means, part, lane);
  }
