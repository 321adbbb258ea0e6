// Codes of new keys and values, and the queries' rotation, in one launch.
//
// Launch: threadgroups (heads, tokens, batch) of THREADS = D rounded up to 32 threads, one vector each. With QUERIES the
//   first HQ heads are queries; then come HK keys and HK values.
// Inputs: [queries [B, HQ, L, D] T;] keys, values [B, HK, L, D] T; table float: cos [D], sin [D], signs [D], then with
//   MU mu [2, HK, D], then with LAMBDA lambda [2, HK, D], then the queries' scale.
// Outputs: codes [2, B, HK, L, W] uint, scales [2, B, HK, L, N] half; [rotated [B, HQ, L, D] float with abs-max 1,
//   factors [B, HQ, L] float: rotated * factor = R(query) * scale / lambda_K.]
// Rounding: float32 throughout; the transform's rounding differs from the reference's by some 1e-7, so that a value on
//   a code's edge may fall to its other side.
  constexpr int W = (D + 7) / 8;
  constexpr int N = (D + G - 1) / G;
  constexpr int SIMDS = THREADS / 32;
  SHARED(float, row, D);
  SHARED(float, spectrum, (N1 / 2 + 1) * (D / N1) * 2);
  SHARED(float, roots, 2 * D);
  SHARED(float, group_max, SIMDS);
  const int d = thread_index_in_threadgroup;
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const int token = threadgroup_position_in_grid.y;
  const int batch = threadgroup_position_in_grid.z;
  const int B = keys_shape[0];
  const int L = keys_shape[2];
  const int index = threadgroup_position_in_grid.x;
  const bool is_query = index < HQ;
  const int which = index < HQ + HK ? 0 : 1;
  const int head = is_query ? index / (HQ > 0 ? HQ / HK : 1) : index - HQ - which * HK;
  const int vector = (batch * HK + head) * L + token;
  if (d < D) {
    roots[d] = table[d];
    roots[D + d] = table[D + d];
    float x = 0.0f;
#if QUERIES
    if (is_query) {
      x = (float)queries[((batch * HQ + index) * L + token) * D + d];
    } else {
      x = which == 0 ? (float)keys[vector * D + d] : (float)values[vector * D + d];
    }
#else
    x = which == 0 ? (float)keys[vector * D + d] : (float)values[vector * D + d];
#endif
    if (MU && !is_query) x -= table[3 * D + (which * HK + head) * D + d];
    row[d] = x * table[2 * D + d];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  srft<D, N1, THREADS>(row, spectrum, roots, d);
  float y = d < D ? row[d] : 0.0f;
  if (LAMBDA && d < D) {
    const float factor = table[3 * D + (MU ? 2 * HK * D : 0) + (which * HK + head) * D + d];
    y = is_query ? y / factor : y * factor;
  }
  // The largest magnitude of the SIMD-group, a NaN included (max alone would drop it).
  const float magnitude = fabs(y);
  float largest = simd_max(magnitude);
  largest = simd_sum(magnitude != magnitude ? 1.0f : 0.0f) > 0.0f ? NOT_A_NUMBER : largest;
  if (lane == 0) group_max[simd] = largest;
  threadgroup_barrier(mem_flags::mem_threadgroup);
#if QUERIES
  if (is_query) {
    float most = 0.0f;
    for (int i = 0; i < SIMDS; i++) most = group_max[i] == group_max[i] ? max(most, group_max[i]) : NOT_A_NUMBER;
    const int q = (batch * HQ + index) * L + token;
    if (d < D) rotated[q * D + d] = most > 0.0f ? y / most : (most == 0.0f ? 0.0f : NOT_A_NUMBER);
    if (d == 0) factors[q] = most * table[3 * D + (MU ? 2 * HK * D : 0) + (LAMBDA ? 2 * HK * D : 0)];
  }
#endif
  constexpr int GROUP_SIMDS = G / 32;
  const int first = simd / GROUP_SIMDS * GROUP_SIMDS;
  float group = 0.0f;
  for (int i = first; i < min(first + GROUP_SIMDS, SIMDS); i++) {
    group = group_max[i] == group_max[i] ? max(group, group_max[i]) : NOT_A_NUMBER;
  }
  float step = (float)((half)(group / 7.0f));
  step = fabs(step) <= 65504.0f ? step : NOT_A_NUMBER;
  const float code = step > 0.0f ? min(max(rint(y / step), -7.0f), 7.0f) : 0.0f;
  uint word = (uint)((int)code + 8) << (4 * (lane & 7));
  word |= simd_shuffle_xor(word, 1);
  word |= simd_shuffle_xor(word, 2);
  word |= simd_shuffle_xor(word, 4);
  if (!is_query) {
    const int out = (which * B * HK * L) + vector;
    if (d / 8 < W && (lane & 7) == 0) codes[out * W + d / 8] = word;
    if (d / G < N && d % G == 0) scales[out * N + d / G] = (half)step;
  }
