// Attention of one query token on the codes, first pass: each threadgroup takes every nb-th tile of one kv head's tokens
// and leaves a partial sum. (Flash decoding; Dao et al. 2023.)
//
// Launch: threadgroups (nb, HK * SETS, B) of SIMDS * 32 threads. SETS threadgroups share a kv head's query heads, HEADS
//   each. A tile is TILE tokens of one SIMD-group; the next tile's words are loaded into the registers that this tile
//   has freed, before its sums are done.
// Inputs: rotated float [B, HQ, 1, D] (abs-max 1), factors float [B, HQ, 1] (in units of log2 e); codes uint
//   [2, B, HK, capacity, D/8]; scales half [2, B, HK, capacity, D/G]; seen [tokens], of which the shape alone is read:
//   it arrives as an argument, where an array's value would be one more load in front of all others. Capacity is a
//   multiple of TILE: rows after the tokens are read, and given no weight.
// Outputs: sums float [B, HQ, nb, D], parts float [B, HQ, nb, 2]: maximum (in log2) and weight of each partial sum.
// Arithmetic: products of half2, summed in float over tiles; weights carry 2^6 against underflow in half. Relative error
//   against float64 on the same bytes 2e-3 at most (bfloat16's own rounding is 1.7e-3).
  constexpr int ROW_LANES = D / 32;          // lanes that share a key row, 16 bytes each
  constexpr int ROWS = 32 / ROW_LANES;       // key rows a SIMD-group loads at once
  constexpr int W = D / 8;
  constexpr int VALUE_ROWS = 32 / W;         // value rows a SIMD-group loads at once, 4 bytes a lane
  constexpr int N = D / G;
  constexpr int KEY_LOADS = TILE / ROWS;
  constexpr int VALUE_LOADS = TILE / VALUE_ROWS;
  constexpr int COPIES = ROW_LANES / KEY_LOADS;  // lanes that end up with the same token
  constexpr int PACKS = (HEADS + 7) / 8;     // uint4 of 8 halves for a token's weights in one group
  constexpr int QUERY_PACKS = 4 * HEADS * ROW_LANES;
  constexpr int WEIGHT_PACKS = SIMDS * TILE * N * PACKS;
  constexpr int ENDS = 2 * SIMDS * HEADS;
  SHARED(uint4, packs, QUERY_PACKS + WEIGHT_PACKS);
  SHARED(float, ends, ENDS);
  SHARED(float, totals, SIMDS * HEADS * D);
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const int thread_id = thread_index_in_threadgroup;
  const int block = threadgroup_position_in_grid.x;
  const int set = threadgroup_position_in_grid.y;
  const int batch = threadgroup_position_in_grid.z;
  const int blocks = threadgroups_per_grid.x;
  const int tokens = seen_shape[0];
  const int capacity = codes_shape[3];
  const int B = codes_shape[1];
  const int kv_head = set / SETS;
  const int first_head = batch * HK * SETS * HEADS + set * HEADS;
  const int part = lane % ROW_LANES;
  const int slot = part / COPIES * ROWS + lane / ROW_LANES;  // the token of a tile whose score this lane ends up with
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
  half value_steps[N];
  {
    const int t = min(first, capacity - TILE);
    #pragma unroll
    for (int i = 0; i < KEY_LOADS; i++) key_words[i] = key_codes[t * ROW_LANES + i * 32 + lane];
    #pragma unroll
    for (int i = 0; i < KEY_LOADS; i++) key_steps[i] = key_scales[(t + i * ROWS + lane / ROW_LANES) * N + part * 32 / G];
    #pragma unroll
    for (int i = 0; i < VALUE_LOADS; i++) value_words[i] = value_codes[t * W + i * 32 + lane];
    #pragma unroll
    for (int g = 0; g < N; g++) value_steps[g] = value_scales[(t + slot) * N + g];
  }
  for (int i = thread_id; i < QUERY_PACKS; i += SIMDS * 32) {
    const int column = i / (HEADS * ROW_LANES);
    const int at = (first_head + i / ROW_LANES % HEADS) * D + i % ROW_LANES * 32 + column * 8;
    uint4 pack;
    pack.x = as_type<uint>(half2((half)rotated[at], (half)rotated[at + 4]));
    pack.y = as_type<uint>(half2((half)rotated[at + 1], (half)rotated[at + 5]));
    pack.z = as_type<uint>(half2((half)rotated[at + 2], (half)rotated[at + 6]));
    pack.w = as_type<uint>(half2((half)rotated[at + 3], (half)rotated[at + 7]));
    packs[i] = pack;
  }
  float factor[HEADS];
  float sum[HEADS][8];
  float most[HEADS];
  float weight[HEADS];
  #pragma unroll
  for (int h = 0; h < HEADS; h++) {
    most[h] = -3.0e38f;
    weight[h] = 0.0f;
    factor[h] = factors[first_head + h];
    #pragma unroll
    for (int j = 0; j < 8; j++) sum[h][j] = 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const int weights_at = QUERY_PACKS + simd * TILE * N * PACKS;
  const int my_weights = weights_at + ((lane / W) * N + (lane % W) * 8 / G) * PACKS;
  while (first < tokens) {
    const bool valid = first + slot < tokens;
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
        const uint4 query = packs[(column * HEADS + h) * ROW_LANES + part];
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
    first += blocks * SIMDS * TILE;
    const int next = min(first, capacity - TILE);
    #pragma unroll
    for (int i = 0; i < KEY_LOADS; i++) key_words[i] = key_codes[next * ROW_LANES + i * 32 + lane];
    #pragma unroll
    for (int i = 0; i < KEY_LOADS; i++) key_steps[i] = key_scales[(next + i * ROWS + lane / ROW_LANES) * N + part * 32 / G];
    // Reduce over the lanes of a row and scatter: at the end score[h][0] is that of token `slot`.
    #pragma unroll
    for (int step = ROW_LANES / 2; step > 0; step /= 2) {
      const bool upper = (part & step) != 0;
      #pragma unroll
      for (int h = 0; h < HEADS; h++) {
        if (KEY_LOADS * 2 * step / ROW_LANES > 1) {
          #pragma unroll
          for (int j = 0; j < KEY_LOADS * step / ROW_LANES; j++) {
            const int j2 = j + KEY_LOADS * step / ROW_LANES < KEY_LOADS ? j + KEY_LOADS * step / ROW_LANES : 0;
            const float keep = upper ? score[h][j2] : score[h][j];
            const float send = upper ? score[h][j] : score[h][j2];
            score[h][j] = keep + simd_shuffle_xor(send, step);
          }
        } else {
          score[h][0] += simd_shuffle_xor(score[h][0], step);
        }
      }
    }
    // Online softmax, one token a lane.
    float p[HEADS];
    float fade[HEADS];
    #pragma unroll
    for (int h = 0; h < HEADS; h++) {
      const float s = valid ? score[h][0] * factor[h] : -3.0e38f;
      const float new_most = max(most[h], simd_max(s));
      fade[h] = fast::exp2(most[h] - new_most);
      p[h] = valid ? fast::exp2(s - new_most + 6.0f) : 0.0f;
      weight[h] = weight[h] * fade[h] + (owner ? p[h] : 0.0f);
      most[h] = new_most;
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    #pragma unroll
    for (int g = 0; g < N; g++) {
      const float step = valid ? (float)value_steps[g] : 0.0f;
      #pragma unroll
      for (int b = 0; b < PACKS; b++) {
        uint pair[4];
        #pragma unroll
        for (int e = 0; e < 4; e++) {
          const int h = b * 8 + 2 * e;
          const float even = h < HEADS ? p[h < HEADS ? h : 0] * step : 0.0f;
          const float odd = h + 1 < HEADS ? p[h + 1 < HEADS ? h + 1 : 0] * step : 0.0f;
          pair[e] = as_type<uint>(half2((half)even, (half)odd));
        }
        uint4 pack;
        pack.x = pair[0];
        pack.y = pair[1];
        pack.z = pair[2];
        pack.w = pair[3];
        if (owner) packs[weights_at + (slot * N + g) * PACKS + b] = pack;
      }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    #pragma unroll
    for (int g = 0; g < N; g++) value_steps[g] = value_scales[(next + slot) * N + g];
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
      #pragma unroll
      for (int b = 0; b < PACKS; b++) {
        const uint4 pack = packs[my_weights + i * VALUE_ROWS * N * PACKS + b];
        #pragma unroll
        for (int e = 0; e < 8; e++) {
          const int h = b * 8 + e < HEADS ? b * 8 + e : 0;
          if (b * 8 + e < HEADS) {
            const uint bits = e / 2 == 0 ? pack.x : e / 2 == 1 ? pack.y : e / 2 == 2 ? pack.z : pack.w;
            const half2 both = as_type<half2>(bits);
            const half2 w = (e & 1) != 0 ? half2(both.y, both.y) : half2(both.x, both.x);
            tile_sum[h][0] = fma(w, c0, tile_sum[h][0]);
            tile_sum[h][1] = fma(w, c1, tile_sum[h][1]);
            tile_sum[h][2] = fma(w, c2, tile_sum[h][2]);
            tile_sum[h][3] = fma(w, c3, tile_sum[h][3]);
          }
        }
      }
    }
    #pragma unroll
    for (int i = 0; i < VALUE_LOADS; i++) value_words[i] = value_codes[next * W + i * 32 + lane];
    #pragma unroll
    for (int h = 0; h < HEADS; h++) {
      #pragma unroll
      for (int j = 0; j < 4; j++) {
        sum[h][j] = fma(sum[h][j], fade[h], (float)tile_sum[h][j].x);
        sum[h][j + 4] = fma(sum[h][j + 4], fade[h], (float)tile_sum[h][j].y);
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
  for (int i = thread_id; i < HEADS * D; i += SIMDS * 32) {
    const int h = i / D;
    const int d = i % D;
    float total = 0.0f;
    for (int s = 0; s < SIMDS; s++) total += totals[(s * HEADS + h) * D + (d & 7) * W + d / 8];
    sums[((size_t)(first_head + h) * blocks + block) * D + d] = total;
  }
  if (thread_id < HEADS) {
    float top = ends[thread_id];
    for (int s = 1; s < SIMDS; s++) top = max(top, ends[s * HEADS + thread_id]);
    float total = 0.0f;
    for (int s = 0; s < SIMDS; s++) {
      total += ends[SIMDS * HEADS + s * HEADS + thread_id] * fast::exp2(ends[s * HEADS + thread_id] - top);
    }
    parts[((first_head + thread_id) * blocks + block) * 2] = top;
    parts[((first_head + thread_id) * blocks + block) * 2 + 1] = total;
  }
