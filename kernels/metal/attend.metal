// A decode step in one launch, but for the second pass of long contexts: codes the new tokens, writes them into the
// cache in place, rotates the queries, and attends on the codes. (Flash decoding; Dao et al. 2023.)
//
// Launch: threadgroups (nb, HK * SETS, B) of SIMDS * 32 threads. SETS threadgroups share a kv head's query vectors (a
//   vector is one head's query of one of the L new tokens), HEADS each, and each takes every nb-th tile of the tokens
//   that were there before. A tile is TILE tokens of one SIMD-group; the next tile's words are loaded into the registers
//   that this tile has freed, before its sums are done. The very last SIMD-group takes the new tokens instead of tiles.
//   With WHOLE nb is 1, and the result is un-rotated here; else attend_merge does that.
// Inputs: queries T [B, HQ, L, D], keys, values T [B, HK, L, D], as they lie; codes uint [2, B, HK, capacity, D/8] and
//   scales half [2, B, HK, capacity, D/G], whole, of which rows position .. position + L - 1 are written IN PLACE (with
//   WINDOW modulo WINDOW: a ring, then L = 1); position int [4], of which [0] counts the tokens before this step. It is
//   the last step's `next`, so that MLX sees one step depend on the other. MASKED: mask bool [L, rows], a column a row of the cache. table as in append_rows.
//   Capacity is a multiple of TILE: rows that hold no token are read, and given no weight.
// Outputs: next int [4], [0] = position + L, and WHOLE ? result T [B, HQ, L, D]
//   : sums float [B, HQ * L, nb, D], parts float [B, HQ * L, nb, 2] = maximum (in log2) and weight of each partial sum.
// Arithmetic: products of half2, summed in float over tiles; weights carry 2^4 against underflow in half. Codes as
//   append_rows has them. Relative error against float64 on the same bytes 2e-3 at most (bfloat16's own rounding is 1.7e-3).
  constexpr int R = D / 32;                  // lanes that share a key row, 16 bytes each
  constexpr int H = D / 64;                  // complex numbers a lane holds of a row to be rotated
  constexpr int ROWS = 32 / R;               // key rows a SIMD-group loads at once
  constexpr int W = D / 8;
  constexpr int VALUE_ROWS = 32 / W;         // value rows a SIMD-group loads at once, 4 bytes a lane
  constexpr int N = D / G;
  constexpr int KEY_LOADS = TILE / ROWS;
  constexpr int VALUE_LOADS = TILE / VALUE_ROWS;
  constexpr int COPIES = R / KEY_LOADS;      // lanes that end up with the same token
  constexpr int CODED_WORDS = 2 * W / 32 > 1 ? 2 : 1;
  constexpr int WEIGHT_WORDS = HEADS <= 2 ? 1 : (HEADS <= 4 ? 2 : 4);  // half2 of a token's weights in one group
  constexpr int QUERY_PACKS = 4 * HEADS * R;
  constexpr int WEIGHT_PACKS = SIMDS * TILE * N * WEIGHT_WORDS / 4;
  SHARED(uint4, packs, QUERY_PACKS + WEIGHT_PACKS);
  SHARED(float, query_factors, HEADS);
  SHARED(float, ends, 2 * SIMDS * HEADS);
  SHARED(float, totals, SIMDS * HEADS * D);
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const int thread_id = thread_index_in_threadgroup;
  const int block = threadgroup_position_in_grid.x;
  const int set = threadgroup_position_in_grid.y;
  const int batch = threadgroup_position_in_grid.z;
  const int blocks = threadgroups_per_grid.x;
  const int capacity = codes_shape[3];
  const int B = codes_shape[1];
  const int kv_head = set / SETS;
  const int first_vector = (batch * HK * SETS + set) * HEADS;
  const int first_of_head = set % SETS * HEADS;  // the same among the kv head's own vectors
  const int part = lane % R;
  const int slot = part / COPIES * ROWS + lane / R;  // the token of a tile whose score this lane ends up with
  const bool owner = part % COPIES == 0;
  const size_t key_row = (size_t)(batch * HK + kv_head) * capacity;
  const size_t value_row = (size_t)((B + batch) * HK + kv_head) * capacity;
  const device uint4* key_codes = (const device uint4*)(codes + key_row * W);
  const device uint* value_codes = codes + value_row * W;
  const device half* key_scales = scales + key_row * N;
  const device half* value_scales = scales + value_row * N;
  int first = (block * SIMDS + simd) * TILE;
  uint4 key_words[KEY_LOADS];
  half key_steps[KEY_LOADS];
  uint value_words[VALUE_LOADS];
  uint value_steps[(N + 1) / 2];
  {
    const int t = min(first, capacity - TILE);
    #pragma unroll
    for (int i = 0; i < KEY_LOADS; i++) key_words[i] = key_codes[t * R + i * 32 + lane];
    #pragma unroll
    for (int i = 0; i < KEY_LOADS; i++) key_steps[i] = key_scales[(t + i * ROWS + lane / R) * N + part * 32 / G];
    #pragma unroll
    for (int i = 0; i < VALUE_LOADS; i++) value_words[i] = value_codes[t * W + i * 32 + lane];
    load_steps<N>(value_scales + (t + slot) * N, value_steps);
  }
  const int before = position[0];
  const int row = min(WINDOW > 0 ? before % (WINDOW > 0 ? WINDOW : 1) : before, capacity - L);  // of the first new token
  const int seen = WINDOW > 0 ? min(before, WINDOW) : before;

  const int constants = 3 * D;
  const int lambdas = constants + (MU ? 2 * HK * D : 0);
  float cosines[2 * H + 3];
  float sines[2 * H + 3];
  load_twiddles<H>(table, lane, cosines, sines);
  const bool takes_new = block == blocks - 1 && simd == SIMDS - 1;
  const size_t key_at = batch * keys_strides[0] + kv_head * keys_strides[1];
  const size_t value_at = batch * values_strides[0] + kv_head * values_strides[1];
  // Two rows, key and value, as H complex numbers each: elements 64 j + 2 lane and the next one.
  float new_re[2 * H];
  float new_im[2 * H];
  if (takes_new) {
    #pragma unroll
    for (int j = 0; j < H; j++) {
      const int d = 64 * j + 2 * lane;
      new_re[j] = (float)keys[key_at + d];
      new_im[j] = (float)keys[key_at + d + 1];
      new_re[H + j] = (float)values[value_at + d];
      new_im[H + j] = (float)values[value_at + d + 1];
    }
  }
  // Rotate the queries.
  SHARED_POINTER(half) query_halves = (SHARED_POINTER(half))packs;
  for (int h = simd; h < HEADS; h += SIMDS) {
    const int vector = first_of_head + h;
    const size_t at = batch * queries_strides[0] + (kv_head * (HEADS * SETS / L) + vector / L) * queries_strides[1]
                    + vector % L * queries_strides[2];
    float re[H];
    float im[H];
    #pragma unroll
    for (int j = 0; j < H; j++) {
      const int d = 64 * j + 2 * lane;
      re[j] = (float)queries[at + d] * table[2 * D + d];
      im[j] = (float)queries[at + d + 1] * table[2 * D + d + 1];
    }
    srft_lanes<H>(re, im, cosines, sines, lane);
    float largest = 0.0f;
    #pragma unroll
    for (int j = 0; j < H; j++) {
      if (LAMBDA) {
        const int d = lambdas + kv_head * D + H * mirrored(lane) + j;
        re[j] = re[j] / table[d];
        im[j] = im[j] / table[d + D / 2];
      }
      largest = max(largest, max(fabs(re[j]), fabs(im[j])));
    }
    // To magnitudes below 2 by a power of two. A row of zeros stays; one with NaN is NaN throughout, and so its result.
    const uint exponent = as_type<uint>(simd_max(largest)) >> 23;
    const float unit = as_type<float>((254u - exponent) << 23);
    #pragma unroll
    for (int j = 0; j < H; j++) {
      const int d = H * mirrored(lane) + j;
      const int pack = (d % 32 / 8 * HEADS + h) * R + d / 32;
      const int element = d % 4 * 2 + d % 8 / 4;
      query_halves[pack * 8 + element] = (half)(re[j] * unit);
      query_halves[(pack + R / 2) * 8 + element] = (half)(im[j] * unit);
    }
    if (lane == 0) query_factors[h] = table[lambdas + (LAMBDA ? 2 * HK * D : 0)] * as_type<float>(exponent << 23);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  float factor[HEADS];
  float sum[HEADS][8];
  float most[HEADS];
  float weight[HEADS];
  #pragma unroll
  for (int h = 0; h < HEADS; h++) {
    most[h] = -3.0e38f;
    weight[h] = 0.0f;
    factor[h] = query_factors[h];
    #pragma unroll
    for (int j = 0; j < 8; j++) sum[h][j] = 0.0f;
  }
  if (takes_new) {
    first = seen;
    // Every set of a kv head codes the new tokens for itself; the first one stores them.
    const bool stores = set % SETS == 0;
    const bool has_value = D == 256 || (lane >= W && lane < 2 * W);
    for (int token = 0; token < L; token++) {
      const int later = min(token + 1, L - 1);
      simdgroup_barrier(mem_flags::mem_threadgroup);
      #pragma unroll
      for (int which = 0; which < 2; which++) {
        float re[H];
        float im[H];
        #pragma unroll
        for (int j = 0; j < H; j++) {
          const int d = 64 * j + 2 * lane;
          const int mean = constants + (which * HK + kv_head) * D + d;
          re[j] = (new_re[which * H + j] - (MU ? table[mean] : 0.0f)) * table[2 * D + d];
          im[j] = (new_im[which * H + j] - (MU ? table[mean + 1] : 0.0f)) * table[2 * D + d + 1];
          if (L > 1) {
            const size_t at = which == 0 ? key_at + later * keys_strides[2] : value_at + later * values_strides[2];
            new_re[which * H + j] = which == 0 ? (float)keys[at + d] : (float)values[at + d];
            new_im[which * H + j] = which == 0 ? (float)keys[at + d + 1] : (float)values[at + d + 1];
          }
        }
        srft_lanes<H>(re, im, cosines, sines, lane);
        #pragma unroll
        for (int j = 0; j < H; j++) {
          const int d = H * mirrored(lane) + j;
          const int lambda = lambdas + (which * HK + kv_head) * D + d;
          totals[which * D + d] = LAMBDA ? re[j] * table[lambda] : re[j];
          totals[which * D + D / 2 + d] = LAMBDA ? im[j] * table[lambda + D / 2] : im[j];
        }
      }
      simdgroup_barrier(mem_flags::mem_threadgroup);
      // A lane takes a word: the key's W first, then the value's (head size 256: one of each).
      float coded[CODED_WORDS][8];
      #pragma unroll
      for (int u = 0; u < CODED_WORDS; u++) {
        const int word = u * 32 + lane;
        #pragma unroll
        for (int i = 0; i < 8; i++) coded[u][i] = totals[word % (2 * W) * 8 + i];
        // Every value is a sum over the whole row: one NaN or infinity there, and none of them is finite.
        float low = coded[u][0];
        float high = coded[u][0];
        #pragma unroll
        for (int i = 1; i < 8; i++) {
          low = min(low, coded[u][i]);
          high = max(high, coded[u][i]);
        }
        #pragma unroll
        for (int apart = 1; apart < G / 8; apart *= 2) {
          low = min(low, simd_shuffle_xor(low, apart));
          high = max(high, simd_shuffle_xor(high, apart));
        }
        const float rounded = (float)((half)((-low >= high ? low : high) / -8.0f));
        const float step = fabs(rounded) <= 65504.0f ? rounded : NOT_A_NUMBER;
        const float inverse = fabs(step) > 0.0f ? 1.0f / step : 0.0f;
        uint packed = 0u;
        #pragma unroll
        for (int i = 0; i < 8; i++) {
          const float code = min(max(rint(coded[u][i] * inverse), -8.0f), 7.0f);
          packed |= (uint)((int)code + 8) << (4 * i);
          coded[u][i] = code * step;
        }
        if (stores && word < 2 * W) {
          const size_t out = (word < W ? key_row : value_row) + row + token;
          IN_PLACE(uint, codes)[out * W + word % W] = packed;
          if (word % (G / 8) == 0) IN_PLACE(half, scales)[out * N + word % W / (G / 8)] = (half)step;
        }
      }
      // The new tokens are causal among themselves.
      #pragma unroll
      for (int h = 0; h < HEADS; h++) {
        const uint4 query = packs[(lane % 4 * HEADS + h) * R + lane % W / 4];
        const half2 q0 = as_type<half2>(query.x);
        const half2 q1 = as_type<half2>(query.y);
        const half2 q2 = as_type<half2>(query.z);
        const half2 q3 = as_type<half2>(query.w);
        float score = (float)q0.x * coded[0][0] + (float)q1.x * coded[0][1] + (float)q2.x * coded[0][2] + (float)q3.x * coded[0][3]
                    + (float)q0.y * coded[0][4] + (float)q1.y * coded[0][5] + (float)q2.y * coded[0][6] + (float)q3.y * coded[0][7];
        score = simd_sum(lane < W ? score : 0.0f) * factor[h];
        const int query_token = (first_of_head + h) % L;
        bool visible = token <= query_token;
#if MASKED
        visible = visible && mask[query_token * mask_shape[1] + row + token];
#endif
        if (visible) {
          const float new_most = max(most[h], score);
          const float fade = fast::exp2(most[h] - new_most);
          const float p = fast::exp2(score - new_most + 4.0f);
          weight[h] = weight[h] * fade + (lane == 0 ? p : 0.0f);
          #pragma unroll
          for (int j = 0; j < 8; j++) {
            sum[h][j] = sum[h][j] * fade + (has_value ? p * coded[CODED_WORDS - 1][j] : 0.0f);
          }
          most[h] = new_most;
        }
      }
    }
  }

  SHARED_POINTER(uint) weight_words = (SHARED_POINTER(uint))packs + QUERY_PACKS * 4;
  const int weights_at = simd * TILE * N * WEIGHT_WORDS;
  const int my_weights = weights_at + ((lane / W) * N + (lane % W) * 8 / G) * WEIGHT_WORDS;
  while (first < seen) {
    const int token = first + slot;
    const bool valid = token < seen && (WINDOW == 0 || token != row);
    half2 dot[HEADS][KEY_LOADS];
    float score[HEADS][KEY_LOADS];
    #pragma unroll
    for (int h = 0; h < HEADS; h++) {
      #pragma unroll
      for (int i = 0; i < KEY_LOADS; i++) dot[h][i] = as_type<half2>(0u);
    }
    #pragma unroll
    for (int column = 0; column < 4; column++) {
      half2 code[KEY_LOADS][4];
      #pragma unroll
      for (int i = 0; i < KEY_LOADS; i++) {
        const uint word = column == 0   ? key_words[i].x
                          : column == 1 ? key_words[i].y
                          : column == 2 ? key_words[i].z
                                        : key_words[i].w;
        code[i][0] = codes_0_4(word);
        code[i][1] = codes_1_5(word);
        code[i][2] = codes_0_4(word >> 8);
        code[i][3] = codes_1_5(word >> 8);
      }
      #pragma unroll
      for (int h = 0; h < HEADS; h++) {
        const uint4 query = packs[(column * HEADS + h) * R + part];
        #pragma unroll
        for (int i = 0; i < KEY_LOADS; i++) {
          dot[h][i] = fma(as_type<half2>(query.x), code[i][0], dot[h][i]);
          dot[h][i] = fma(as_type<half2>(query.y), code[i][1], dot[h][i]);
          dot[h][i] = fma(as_type<half2>(query.z), code[i][2], dot[h][i]);
          dot[h][i] = fma(as_type<half2>(query.w), code[i][3], dot[h][i]);
        }
      }
    }
    #pragma unroll
    for (int h = 0; h < HEADS; h++) {
      #pragma unroll
      for (int i = 0; i < KEY_LOADS; i++) {
        score[h][i] = ((float)dot[h][i].x + (float)dot[h][i].y) * (float)key_steps[i];
      }
    }
    first += (blocks * SIMDS - 1) * TILE;
    const int next_tile = min(first, capacity - TILE);
    #pragma unroll
    for (int i = 0; i < KEY_LOADS; i++) key_words[i] = key_codes[next_tile * R + i * 32 + lane];
    #pragma unroll
    for (int i = 0; i < KEY_LOADS; i++) key_steps[i] = key_scales[(next_tile + i * ROWS + lane / R) * N + part * 32 / G];
    // Reduce over the lanes of a row and scatter: at the end score[h][0] is that of token `slot`.
    #pragma unroll
    for (int step = R / 2; step > 0; step /= 2) {
      const bool upper = (part & step) != 0;
      #pragma unroll
      for (int h = 0; h < HEADS; h++) {
        if (KEY_LOADS * 2 * step / R > 1) {
          #pragma unroll
          for (int j = 0; j < KEY_LOADS * step / R; j++) {
            const int j2 = j + KEY_LOADS * step / R < KEY_LOADS ? j + KEY_LOADS * step / R : 0;
            const float keep = upper ? score[h][j2] : score[h][j];
            const float send = upper ? score[h][j] : score[h][j2];
            score[h][j] = keep + simd_shuffle_xor(send, step);
          }
        } else {
          score[h][0] += simd_shuffle_xor(score[h][0], step);
        }
      }
    }
    // Online softmax, one token a lane. The maximum follows only when a score exceeds it by 2: weights stay below 2^6.
    bool exceeds = false;
    #pragma unroll
    for (int h = 0; h < HEADS; h++) {
#if MASKED
      const bool visible = valid && mask[(first_of_head + h) % L * mask_shape[1] + min(token, mask_shape[1] - 1)];
#else
      const bool visible = valid;
#endif
      score[h][0] = visible ? score[h][0] * factor[h] : -3.0e38f;
      exceeds = exceeds || score[h][0] > most[h] + 2.0f;
    }
    if (simd_any(exceeds)) {
      #pragma unroll
      for (int h = 0; h < HEADS; h++) {
        const float new_most = max(most[h], simd_max(score[h][0]));
        const float fade = fast::exp2(most[h] - new_most);
        most[h] = new_most;
        weight[h] *= fade;
        #pragma unroll
        for (int j = 0; j < 8; j++) sum[h][j] *= fade;
      }
    }
    float p[HEADS];
    #pragma unroll
    for (int h = 0; h < HEADS; h++) {
      p[h] = score[h][0] == -3.0e38f ? 0.0f : fast::exp2(score[h][0] - most[h] + 4.0f);
      weight[h] += owner ? p[h] : 0.0f;
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    #pragma unroll
    for (int g = 0; g < N; g++) {
      const half2 steps = as_type<half2>(value_steps[g / 2]);
      const float step = valid ? (float)(g % 2 == 0 ? steps.x : steps.y) : 0.0f;
      uint pair[4];
      #pragma unroll
      for (int e = 0; e < WEIGHT_WORDS; e++) {
        const float even = 2 * e < HEADS ? p[2 * e < HEADS ? 2 * e : 0] * step : 0.0f;
        const float odd = 2 * e + 1 < HEADS ? p[2 * e + 1 < HEADS ? 2 * e + 1 : 0] * step : 0.0f;
        pair[e] = as_type<uint>(half2((half)even, (half)odd));
      }
      const int at = weights_at + (slot * N + g) * WEIGHT_WORDS;
      if (owner) {
        #pragma unroll
        for (int e = 0; e < WEIGHT_WORDS; e++) weight_words[at + e] = pair[e];
      }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    load_steps<N>(value_scales + (next_tile + slot) * N, value_steps);
    half2 tile_sum[HEADS][4];
    #pragma unroll
    for (int h = 0; h < HEADS; h++) {
      #pragma unroll
      for (int j = 0; j < 4; j++) tile_sum[h][j] = as_type<half2>(0u);
    }
    #pragma unroll
    for (int i = 0; i < VALUE_LOADS; i++) {
      const uint word = value_words[i];
      const half2 c0 = codes_0_4(word);
      const half2 c1 = codes_1_5(word);
      const half2 c2 = codes_0_4(word >> 8);
      const half2 c3 = codes_1_5(word >> 8);
      const int at = my_weights + i * VALUE_ROWS * N * WEIGHT_WORDS;
      uint pair[4];
      if constexpr (WEIGHT_WORDS == 4) {
        const uint4 pack = *(SHARED_POINTER(uint4))(weight_words + at);
        pair[0] = pack.x;
        pair[1] = pack.y;
        pair[2] = pack.z;
        pair[3] = pack.w;
      } else if constexpr (WEIGHT_WORDS == 2) {
        const uint2 pack = *(SHARED_POINTER(uint2))(weight_words + at);
        pair[0] = pack.x;
        pair[1] = pack.y;
      } else {
        pair[0] = weight_words[at];
      }
      #pragma unroll
      for (int h = 0; h < HEADS; h++) {
        const half2 both = as_type<half2>(pair[h / 2]);
        const half2 w = (h & 1) != 0 ? half2(both.y, both.y) : half2(both.x, both.x);
        tile_sum[h][0] = fma(w, c0, tile_sum[h][0]);
        tile_sum[h][1] = fma(w, c1, tile_sum[h][1]);
        tile_sum[h][2] = fma(w, c2, tile_sum[h][2]);
        tile_sum[h][3] = fma(w, c3, tile_sum[h][3]);
      }
    }
    #pragma unroll
    for (int i = 0; i < VALUE_LOADS; i++) value_words[i] = value_codes[next_tile * W + i * 32 + lane];
    #pragma unroll
    for (int h = 0; h < HEADS; h++) {
      #pragma unroll
      for (int j = 0; j < 4; j++) {
        sum[h][j] += (float)tile_sum[h][j].x;
        sum[h][j + 4] += (float)tile_sum[h][j].y;
      }
    }
  }

  #pragma unroll
  for (int h = 0; h < HEADS; h++) weight[h] = simd_sum(weight[h]);
  // Sum over the lanes that hold the same word of different tokens, then over the SIMD-groups.
  #pragma unroll
  for (int step = W; step < 32; step *= 2) {
    #pragma unroll
    for (int h = 0; h < HEADS; h++) {
      #pragma unroll
      for (int j = 0; j < 8; j++) sum[h][j] += simd_shuffle_xor(sum[h][j], step);
    }
  }
  if (lane == 0) {
    #pragma unroll
    for (int h = 0; h < HEADS; h++) {
      ends[simd * HEADS + h] = most[h];
      ends[SIMDS * HEADS + simd * HEADS + h] = weight[h];
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  #pragma unroll
  for (int h = 0; h < HEADS; h++) {
    float top = ends[h];
    for (int s = 1; s < SIMDS; s++) top = max(top, ends[s * HEADS + h]);
    const float fade = fast::exp2(most[h] - top);
    if (lane < W) {
      #pragma unroll
      for (int j = 0; j < 8; j++) totals[(simd * HEADS + h) * D + j * W + lane] = sum[h][j] * fade;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (thread_id == 0 && block == 0 && set == 0 && batch == 0) next[0] = before + L;
#if WHOLE
  for (int i = thread_id; i < HEADS * D; i += SIMDS * 32) {
    const int h = i / D;
    float top = ends[h];
    for (int s = 1; s < SIMDS; s++) top = max(top, ends[s * HEADS + h]);
    float total = 0.0f;
    float whole = 0.0f;
    for (int s = 0; s < SIMDS; s++) {
      total += totals[s * HEADS * D + i];
      whole += ends[SIMDS * HEADS + s * HEADS + h] * fast::exp2(ends[s * HEADS + h] - top);
    }
    total = total / whole;
    const int d = i % W * 8 + i % D / W;
    if (LAMBDA) total = total / table[lambdas + (HK + kv_head) * D + d];
    totals[i] = total;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  load_twiddles<H>(table, lane, cosines, sines);
  for (int h = simd; h < HEADS; h += SIMDS) {
    float re[H];
    float im[H];
    inverse_srft_lanes<H, true>(totals + h * D, re, im, table, cosines, sines, lane);
    #pragma unroll
    for (int j = 0; j < H; j++) {
      const int d = 2 * (H * mirrored(lane) + j);
      const int mean = constants + (HK + kv_head) * D + d;
      result[(size_t)(first_vector + h) * D + d] = (T)(re[j] * table[2 * D + d] + (MU ? table[mean] : 0.0f));
      result[(size_t)(first_vector + h) * D + d + 1] = (T)(im[j] * table[2 * D + d + 1] + (MU ? table[mean + 1] : 0.0f));
    }
  }
#else
  for (int i = thread_id; i < HEADS * D; i += SIMDS * 32) {
    const int h = i / D;
    const int d = i % D;
    float total = 0.0f;
    for (int s = 0; s < SIMDS; s++) total += totals[(s * HEADS + h) * D + (d & 7) * W + d / 8];
    sums[((size_t)(first_vector + h) * blocks + block) * D + d] = total;
  }
  if (thread_id < HEADS) {
    float top = ends[thread_id];
    for (int s = 1; s < SIMDS; s++) top = max(top, ends[s * HEADS + thread_id]);
    float total = 0.0f;
    for (int s = 0; s < SIMDS; s++) {
      total += ends[SIMDS * HEADS + s * HEADS + thread_id] * fast::exp2(ends[s * HEADS + thread_id] - top);
    }
    parts[((first_vector + thread_id) * blocks + block) * 2] = top;
    parts[((first_vector + thread_id) * blocks + block) * 2 + 1] = total;
  }
#endif
