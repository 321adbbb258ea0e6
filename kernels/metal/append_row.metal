// Codes of new keys and values, a threadgroup for each row: any even D.
//
// Launch: threadgroups (L, HK, 2 B) of THREADS = D rounded up to 32 threads: keys of all batches, then values.
// Inputs: keys, values [B, HK, L, D] T, strided as they like; table as in append_rows.
// Outputs: codes [2, B, HK, L, W] uint, scales [2, B, HK, L, N] half.
// Rounding: float32 throughout; the transform's differs from the reference's by some 1e-7, so that a value on a code's
//   edge may fall to its other side.
  constexpr int W = (D + 7) / 8;
  constexpr int N = (D + G - 1) / G;
  constexpr int SIMDS = THREADS / 32;
  constexpr int GROUP_SIMDS = G / 32;
  SHARED(float, row, D);
  SHARED(float, spectrum, (N1 / 2 + 1) * (D / N1) * 2);
  SHARED(float, roots, 2 * D);
  SHARED(float, lows, SIMDS);
  SHARED(float, highs, SIMDS);
  SHARED(float, errors, SCALE_CHOICES * SIMDS);
  const int d = thread_index_in_threadgroup;
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const size_t token = threadgroup_position_in_grid.x;
  const int head = threadgroup_position_in_grid.y;
  const int B = keys_shape[0];
  const int which = (int)threadgroup_position_in_grid.z / B;
  const size_t batch = (int)threadgroup_position_in_grid.z % B;
  const size_t vector = ((size_t)threadgroup_position_in_grid.z * HK + head) * keys_shape[2] + token;
  const int constants = 3 * D + (which * HK + head) * D;
  if (d < D) {
    roots[d] = table[d];
    roots[D + d] = table[D + d];
    float x = 0.0f;
    if (which == 0) {
      x = (float)keys[batch * keys_strides[0] + head * keys_strides[1] + token * keys_strides[2] + d * keys_strides[3]];
    } else {
      x = (float)values[batch * values_strides[0] + head * values_strides[1] + token * values_strides[2] +
                        d * values_strides[3]];
    }
    if (MU) x -= table[constants + d];
    if (SMOOTH && which == 0) x = x / table[3 * D + ((MU ? 2 : 0) + (LAMBDA ? 2 : 0)) * HK * D + head * D + d];
    row[d] = x * table[2 * D + d];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  srft<D, N1, THREADS>(row, spectrum, roots, d);
  float y = d < D ? row[d] : 0.0f * row[0];  // 0, or NaN where the row is
  if (LAMBDA && d < D) y *= table[constants + (MU ? 2 * HK * D : 0) + d];
  // One NaN or infinity in a row, and no value of it is finite: min and max see that even where they drop a NaN.
  const float low = simd_min(y);
  const float high = simd_max(y);
  if (lane == 0) {
    lows[simd] = low;
    highs[simd] = high;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const int first = simd / GROUP_SIMDS * GROUP_SIMDS;
  float group_low = lows[first];
  float group_high = highs[first];
  for (int i = first + 1; i < min(first + GROUP_SIMDS, SIMDS); i++) {
    group_low = min(group_low, lows[i]);
    group_high = max(group_high, highs[i]);
  }
  const float whole = (-group_low >= group_high ? group_low : group_high) / -8.0f;
  #pragma unroll
  for (int i = 0; i < SCALE_CHOICES; i++) {
    const float tried = scale_tried(whole, i);
    const float gap = fma(-code_of(y, share_of(tried)), tried, y);
    const float error = simd_sum(gap * gap);
    if (lane == 0) errors[i * SIMDS + simd] = error;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float first_tried = scale_tried(whole, 0);
  float step = first_tried;
  float least = 0.0f;
  #pragma unroll
  for (int i = 0; i < SCALE_CHOICES; i++) {
    float error = errors[i * SIMDS + first];
    for (int j = first + 1; j < min(first + GROUP_SIMDS, SIMDS); j++) error += errors[i * SIMDS + j];
    if (i == 0 || error < least) {
      step = scale_tried(whole, i);
      least = error;
    }
  }
  if (fabs(first_tried) < SMALLEST_TRIED) step = first_tried;
  step = fabs(step) <= 65504.0f ? step : NOT_A_NUMBER;
  uint word = (fabs(step) > 0.0f ? nibble_of(y, inverse_of(step)) : 8u) << (4 * (lane & 7));
  word |= simd_shuffle_xor(word, 1);
  word |= simd_shuffle_xor(word, 2);
  word |= simd_shuffle_xor(word, 4);
  if (d / 8 < W && (lane & 7) == 0) codes[vector * W + d / 8] = word;
  if (d / G < N && d % G == 0) scales[vector * N + d / G] = (half)step;
