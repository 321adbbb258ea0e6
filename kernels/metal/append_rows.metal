// Codes of new keys and values, many rows a SIMD-group, D = 64, 128 or 256.
//
// Launch: threadgroups (any number, HK, 2 B) of SIMDS * 32 threads: keys of all batches, then values. The SIMD-groups
//   of a head take its tiles of 1024 / D tokens in turns.
// Inputs: keys, values [B, HK, L, D] T, strided as they like; one with a dense last axis and multiples of 8 as its
//   other strides must begin at a multiple of 16 bytes. table float: cos(2 pi n / D) [D], sin [D], signs [D], then with
//   MU mu [2, HK, D], then with LAMBDA lambda [2, HK, D], then with SMOOTH smooth [HK, D], of keys only.
// Outputs: codes [2, B, HK, L, W] uint, scales [2, B, HK, L, N] half.
// Rounding: float32 throughout, with 1 / (15 scale) in place of a division by the scale: a value within a few millionths of
//   a code's edge may fall to its other side.
  constexpr int LANES = ROW_LANES;
  constexpr int ROWS = 32 / LANES;
  constexpr int OCTETS = ROW_OCTETS;
  constexpr int W = D / 8;
  constexpr int N = D / G;
  constexpr int GROUP_LANES = G / 32;  // that have a group together, 32 values each
  constexpr uint BASE = 0x4B400000u;  // what a float of `place_of` has beside a code
  SHARED(float4, rooms, SIMDS * ROWS * ROW_ROOM);
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const int q = lane % LANES;
  const int row = lane / LANES;
  SHARED_POINTER(float4) room = rooms + (simd * ROWS + row) * ROW_ROOM;
  const int B = keys_shape[0];
  const int L = keys_shape[2];
  const int which = (int)threadgroup_position_in_grid.z / B;
  const int batch = (int)threadgroup_position_in_grid.z % B;
  const int head = threadgroup_position_in_grid.y;
  const size_t batch_stride = which == 0 ? keys_strides[0] : values_strides[0];
  const size_t head_stride = which == 0 ? keys_strides[1] : values_strides[1];
  const size_t token_stride = which == 0 ? keys_strides[2] : values_strides[2];
  const size_t stride = which == 0 ? keys_strides[3] : values_strides[3];
  const bool dense = stride == 1 && (batch_stride | head_stride | token_stride) % 8 == 0;
  const device T* rows = (which == 0 ? keys : values) + batch * batch_stride + head * head_stride;
  const device float* mu = table + 3 * D + (which * HK + head) * D;
  const device float* lambda = mu + (MU ? 2 * HK * D : 0);
  const device float* smooth = table + 3 * D + ((MU ? 2 : 0) + (LAMBDA ? 2 : 0)) * HK * D + head * D;
  const int words[4] = {q, OCTETS - 1 - q, OCTETS + q, 2 * OCTETS - 1 - q};
  float turn_cos[16];
  float turn_sin[16];
  load_turns<D>(turn_cos, turn_sin, table, q);
  const int tiles = (L + ROWS - 1) / ROWS;
  const int first_tile = threadgroup_position_in_grid.x * SIMDS + simd;
  for (int tile = first_tile; tile < tiles; tile += threadgroups_per_grid.x * SIMDS) {
    const int token = tile * ROWS + row;
    const device T* from = rows + min(token, L - 1) * token_stride;
    // All of a lane's loads come before anything that waits for one.
    float x[32];
    if (dense) {
      #pragma unroll
      for (int j = 0; j < ROW_N1; j++) load_dense<T, ROW_RUN>(x + ROW_RUN * j, from + 2 * ROW_N2 * j + ROW_RUN * q);
    } else {
      // By way of the row's room, so that the loop stays one and no registers are kept for 32 addresses.
      simdgroup_barrier(mem_flags::mem_threadgroup);
      #pragma unroll 1
      for (int i = 0; i < 32; i++) {
        const int d = 2 * ROW_N2 * (i / ROW_RUN) + ROW_RUN * q + i % ROW_RUN;
        ((SHARED_POINTER(float))room)[32 * q + i] = (float)from[d * stride];
      }
      #pragma unroll
      for (int i = 0; i < 32; i++) x[i] = ((SHARED_POINTER(float))room)[32 * q + i];
      simdgroup_barrier(mem_flags::mem_threadgroup);
    }
    float re[16];
    float im[16];
    #pragma unroll
    for (int i = 0; i < 32; i += 4) {
      const int d = 2 * ROW_N2 * (i / ROW_RUN) + ROW_RUN * q + i % ROW_RUN;
      const float4 sign = *(const device float4*)(table + 2 * D + d);
      if (MU) {
        const float4 centre = *(const device float4*)(mu + d);
        x[i] -= centre.x;
        x[i + 1] -= centre.y;
        x[i + 2] -= centre.z;
        x[i + 3] -= centre.w;
      }
      if (SMOOTH && which == 0) {
        const float4 factor = *(const device float4*)(smooth + d);
        x[i] *= reciprocal(factor.x);
        x[i + 1] *= reciprocal(factor.y);
        x[i + 2] *= reciprocal(factor.z);
        x[i + 3] *= reciprocal(factor.w);
      }
      const int at = i % ROW_RUN / 2 * ROW_N1 + i / ROW_RUN;
      re[at] = x[i] * sign.x;
      im[at] = x[i + 1] * sign.y;
      re[at + ROW_N1] = x[i + 2] * sign.z;
      im[at + ROW_N1] = x[i + 3] * sign.w;
    }
    dfts<ROW_N1>(re, im);
    #pragma unroll
    for (int i = 0; i < 16; i++) {
      if (i % ROW_N1 != 0) turn(re, im, i, turn_cos[i], turn_sin[i]);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    put_residues<D>(room, re, im, q);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    get_classes<D>(room, re, im, q);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    dfts<ROW_N2>(re, im);
    put_spectrum<D>(room, re, im, q);
    if (q == 0) room[OCTETS * 5] = float4_of(re[0], im[0], re[0], im[0]);  // Z_M = Z_0
    simdgroup_barrier(mem_flags::mem_threadgroup);
    get_octets<D>(room, re, im, q);
    const float4 above = room[(OCTETS - q) * 5];
    const float4 next = room[(q + 1) * 5];
    // Read for each tile anew, as the signs are: kept, they would take registers that other SIMD-groups need more.
    float part_cos[9];
    float part_sin[9];
    load_dense<float, 8>(part_cos, table + 8 * q);
    load_dense<float, 8>(part_sin, table + D + 8 * q);
    part_cos[8] = table[8 * q + 8];
    part_sin[8] = table[D + 8 * q + 8];
    // y[w][i]: value i of word words[w], but for ROW_NORM.
    float y[4][8];
    #pragma unroll
    for (int i = 0; i <= 8; i++) {
      const float a_re = i == 8 ? next.x : re[i % 8];
      const float a_im = i == 8 ? next.y : im[i % 8];
      const float b_re = i == 0 ? above.x : re[8 + (8 - i) % 8];
      const float b_im = i == 0 ? above.y : im[8 + (8 - i) % 8];
      const float even_re = a_re + b_re;
      const float even_im = a_im - b_im;
      const float odd_re = a_im + b_im;
      const float odd_im = a_re - b_re;
      const float turned_re = fma(part_cos[i], odd_re, -(part_sin[i] * odd_im));
      const float turned_im = fma(part_cos[i], odd_im, part_sin[i] * odd_re);
      if (i < 8) {
        y[0][i] = even_re + turned_re;
        y[2][i] = even_im - turned_im;
      }
      if (i > 0) {
        y[1][8 - i] = even_re - turned_re;
        y[3][8 - i] = -even_im - turned_im;
      }
      // X_0 and X_M are real, share a place, and count once where all others count for their conjugates too.
      if (i == 0) {
        y[2][0] = q == 0 ? even_re - turned_re : y[2][0];
        y[0][0] *= q == 0 ? 0.70710678f : 1.0f;
        y[2][0] *= q == 0 ? 0.70710678f : 1.0f;
      }
    }
    // Now each lane gets the 32 values of a group, or of half of one.
    simdgroup_barrier(mem_flags::mem_threadgroup);
    #pragma unroll
    for (int w = 0; w < 4; w++) put_word<D>(room, y[w], words[w]);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    #pragma unroll
    for (int w = 0; w < 4; w++) get_word<D>(room, x + 8 * w, 4 * q + w);
    if (LAMBDA) {
      #pragma unroll
      for (int i = 0; i < 32; i += 4) {
        const float4 factor = *(const device float4*)(lambda + 32 * q + i);
        x[i] *= factor.x;
        x[i + 1] *= factor.y;
        x[i + 2] *= factor.z;
        x[i + 3] *= factor.w;
      }
    }
    float low = x[0];
    float high = x[0];
    #pragma unroll
    for (int i = 1; i < 32; i++) {
      low = min(low, x[i]);
      high = max(high, x[i]);
    }
    #pragma unroll
    for (int apart = 1; apart < GROUP_LANES; apart *= 2) {
      low = min(low, simd_shuffle_xor(low, apart));
      high = max(high, simd_shuffle_xor(high, apart));
    }
    const float scale = best_scale<32, GROUP_LANES>(x, (-low >= high ? low : high) * (ROW_NORM / -8.0f), ROW_NORM);
    // Every value is a sum over the whole row: one NaN or infinity there, and none of them is finite.
    const float step = fabs(scale) <= 65504.0f ? scale : NOT_A_NUMBER;
    const float share = share_of(step * (1.0f / ROW_NORM));
    simdgroup_barrier(mem_flags::mem_threadgroup);
    #pragma unroll
    for (int w = 0; w < 4; w++) {
      uint word = 0u;
      #pragma unroll
      for (int i = 7; i >= 0; i--) word = (word << 4) + as_type<uint>(place_of(x[8 * w + i], share));
      word -= BASE + (BASE << 4) + (BASE << 8);
      ((SHARED_POINTER(uint))room)[word_at<D>(4 * q + w)] = fabs(step) > 0.0f ? word : 0x88888888u;
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    if (token < L) {
      const size_t vector = ((size_t)threadgroup_position_in_grid.z * HK + head) * L + token;
      *(device uint4*)(codes + vector * W + 4 * q) = ((SHARED_POINTER(uint4))room)[q];
      if (q % GROUP_LANES == 0) scales[vector * N + scale_at<D, G>(q / GROUP_LANES)] = (half)step;
    }
  }
