// Codes back to keys and values, up to their rounding, many rows a SIMD-group, D = 64, 128 or 256.
//
// Launch: as append_rows.
// Inputs: codes uint [2, B, HK, S, W], scales half [2, B, HK, S, N], both dense along the last axis and strided as they
//   like along the others; table as in append_rows.
//   ROOM: after, whose axis 2 says how many rows are to be left free behind the expanded ones; none of it is read.
// Output: expanded [2, B, HK, S, D] T, with ROOM [2, B, HK, S + free, D]. Rounding: float32 throughout.
  constexpr int LANES = ROW_LANES;
  constexpr int ROWS = 32 / LANES;
  constexpr int OCTETS = ROW_OCTETS;
  SHARED(float4, rooms, SIMDS * ROWS * ROW_ROOM);
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const int q = lane % LANES;
  const int row = lane / LANES;
  SHARED_POINTER(float4) room = rooms + (simd * ROWS + row) * ROW_ROOM;
  const int B = codes_shape[1];
  const int S = codes_shape[3];
#if ROOM
  const int all = S + after_shape[2];
#else
  const int all = S;
#endif
  const int which = (int)threadgroup_position_in_grid.z / B;
  const int batch = (int)threadgroup_position_in_grid.z % B;
  const int head = threadgroup_position_in_grid.y;
  const device uint* code_rows =
      codes + which * (size_t)codes_strides[0] + batch * (size_t)codes_strides[1] + head * (size_t)codes_strides[2];
  // No pointer: Metal puts an array of fewer than 8 elements into another address space.
  const size_t scales_at =
      which * (size_t)scales_strides[0] + batch * (size_t)scales_strides[1] + head * (size_t)scales_strides[2];
  const device float* mu = table + 3 * D + (which * HK + head) * D;
  const device float* lambda = mu + (MU ? 2 * HK * D : 0);
  const device float* smooth = table + 3 * D + ((MU ? 2 : 0) + (LAMBDA ? 2 : 0)) * HK * D + head * D;
  const int words[4] = {q, OCTETS - 1 - q, OCTETS + q, 2 * OCTETS - 1 - q};
  float turn_cos[16];
  float turn_sin[16];
  load_turns<D>(turn_cos, turn_sin, table, q);
  // What a code is multiplied by beside its scale.
  float factors[4][LAMBDA ? 8 : 1];
  #pragma unroll
  for (int w = 0; w < 4; w++) {
    factors[w][0] = ROW_NORM;
    if (LAMBDA) {
      #pragma unroll
      for (int i = 0; i < (LAMBDA ? 8 : 1); i++) factors[w][i] = ROW_NORM / lambda[words[w] * 8 + i];
    }
  }
  const int tiles = (S + ROWS - 1) / ROWS;
  const int first_tile = threadgroup_position_in_grid.x * SIMDS + simd;
  for (int tile = first_tile; tile < tiles; tile += threadgroups_per_grid.x * SIMDS) {
    const int token = tile * ROWS + row;
    const int from = min(token, S - 1);
    float y[4][8];
    #pragma unroll
    for (int w = 0; w < 4; w++) {
      const uint word = code_rows[from * (size_t)codes_strides[3] + word_at<D>(words[w])];
      const int group = scale_at<D, G>(words[w] / (G / 8));
      const float scale = (float)scales[scales_at + from * (size_t)scales_strides[3] + group];
      #pragma unroll
      for (int i = 0; i < 2; i++) {
        const half2 even = codes_0_4(word >> (8 * i));
        const half2 odd = codes_1_5(word >> (8 * i));
        y[w][2 * i] = (float)even.x;
        y[w][2 * i + 1] = (float)odd.x;
        y[w][2 * i + 4] = (float)even.y;
        y[w][2 * i + 5] = (float)odd.y;
      }
      #pragma unroll
      for (int i = 0; i < 8; i++) y[w][i] *= scale * factors[w][LAMBDA ? i : 0];
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    room[q] = float4_of(y[0][0], y[2][0], y[1][0], y[3][0]);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    // The first value of the octet after a lane's upper one, and of the one after its lower one.
    const float2 above = ((SHARED_POINTER(float2))room)[max(2 * q - 1, 0)];
    const float2 next = ((SHARED_POINTER(float2))room)[min(2 * q + 2, 2 * LANES - 1)];
    // Read for each tile anew, as the signs are: kept, they would take registers that other SIMD-groups need more.
    float part_cos[9];
    float part_sin[9];
    load_dense<float, 8>(part_cos, table + 8 * q);
    load_dense<float, 8>(part_sin, table + D + 8 * q);
    part_cos[8] = table[8 * q + 8];
    part_sin[8] = table[D + 8 * q + 8];
    float re[16];
    float im[16];
    #pragma unroll
    for (int i = 0; i <= 8; i++) {
      float a_re = i == 8 ? next.x : y[0][i % 8];
      float a_im = i == 8 ? next.y : y[2][i % 8];
      float b_re = i == 0 ? above.x : y[1][(8 - i) % 8];
      float b_im = i == 0 ? above.y : y[3][(8 - i) % 8];
      // X_0 and X_M are real, share a place, and count once where all others count for their conjugates too.
      if (i == 0) {
        b_re = q == 0 ? 1.4142136f * a_im : b_re;
        b_im = q == 0 ? 0.0f : b_im;
        a_re = q == 0 ? 1.4142136f * a_re : a_re;
        a_im = q == 0 ? 0.0f : a_im;
      }
      const float even_re = a_re + b_re;
      const float even_im = a_im - b_im;
      const float odd_re = a_re - b_re;
      const float odd_im = a_im + b_im;
      const float turned_re = fma(part_cos[i], odd_re, -(part_sin[i] * odd_im));
      const float turned_im = fma(part_cos[i], odd_im, part_sin[i] * odd_re);
      if (i < 8) {
        re[i] = even_re - turned_im;
        im[i] = even_im + turned_re;
      }
      if (i > 0) {
        re[16 - i] = even_re + turned_im;
        im[16 - i] = turned_re - even_im;
      }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    put_octets<D>(room, re, im, q);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    get_spectrum<D>(room, re, im, q);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    dfts<ROW_N2>(im, re);
    put_classes<D>(room, re, im, q);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    get_residues<D>(room, re, im, q);
    #pragma unroll
    for (int i = 0; i < 16; i++) {
      if (i % ROW_N1 != 0) turn(im, re, i, turn_cos[i], turn_sin[i]);
    }
    dfts<ROW_N1>(im, re);
    const size_t vector = ((size_t)threadgroup_position_in_grid.z * HK + head) * all + token;
    float x[32];
    #pragma unroll
    for (int i = 0; i < 32; i += 4) {
      const int d = 2 * ROW_N2 * (i / ROW_RUN) + ROW_RUN * q + i % ROW_RUN;
      const float4 sign = *(const device float4*)(table + 2 * D + d);
      const int at = i % ROW_RUN / 2 * ROW_N1 + i / ROW_RUN;
      x[i] = re[at] * sign.x;
      x[i + 1] = im[at] * sign.y;
      x[i + 2] = re[at + ROW_N1] * sign.z;
      x[i + 3] = im[at + ROW_N1] * sign.w;
      if (SMOOTH && which == 0) {
        const float4 factor = *(const device float4*)(smooth + d);
        x[i] *= factor.x;
        x[i + 1] *= factor.y;
        x[i + 2] *= factor.z;
        x[i + 3] *= factor.w;
      }
      if (MU) {
        const float4 centre = *(const device float4*)(mu + d);
        x[i] += centre.x;
        x[i + 1] += centre.y;
        x[i + 2] += centre.z;
        x[i + 3] += centre.w;
      }
    }
    if (token < S) {
      #pragma unroll
      for (int j = 0; j < ROW_N1; j++) {
        store_dense<T, ROW_RUN>(expanded + vector * D + 2 * ROW_N2 * j + ROW_RUN * q, x + ROW_RUN * j);
      }
    }
  }
