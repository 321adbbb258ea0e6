// A decode step in one launch, but for the second pass of long contexts: codes the new tokens, writes them into the
// cache in place, rotates the queries, and attends on the codes. Or only the latter two. (Flash decoding; Dao et al. 2023.)
//
// Launch: threadgroups (nb, HK * SETS, B) of SIMDS * 32 threads. SETS threadgroups share a kv head's query vectors (a
//   vector is one head's query of one of the L new tokens), HEADS each. The SIMD-groups of all blocks take tiles of the
//   tokens that were there before in turns, 16 tokens each; the next tile's words are loaded into the registers that this
//   tile has freed. With SINGLE none has a next one; then SHARERS SIMD-groups may share a tile, each of which has as many of
//   a row's units. The last block's last SIMD-group, or SIMD-groups, takes the new tokens in place of such tiles.
//   With WHOLE nb is 1, and the result is un-rotated here; else attend_merge does that. With CODED the cache holds the new
//   tokens already, and the position counts them: nothing is coded or written, keys and values are not looked at.
// Inputs, all row-contiguous: queries T [B, HQ, L, D], keys, values T [B, HK, L, D], from a multiple of 4 bytes on; codes
//   uint [2, B, HK, capacity, D/8] and scales half [2, B, HK, capacity, ceil(D/G)], whole, of which rows position ..
//   position + L - 1 are written IN PLACE (with WINDOW modulo WINDOW: a ring, then L = 1); position int [4], of which [0]
//   counts the tokens before this step. It is the last step's `next`, so that MLX sees one step depend on the other.
//   MASKED: mask bool [L, rows], a column a row of the cache. table as in append_rows, then with LAMBDA the largest
//   1 / lambda of each head's keys [HK], then the queries' factor; from the next multiple of four on each lane's constants
//   (srft_lanes.h).
//   Capacity is a multiple of 16: rows that hold no token are read, and given no weight.
// Outputs: next int [4], [0] = position + L (CODED: position), and WHOLE ? result T [B, HQ, L, D]
//   : sums float [B, HQ * L, nb, D], parts float [B, HQ * L, nb, 2] = maximum (in log2) and weight of each partial sum.
// Arithmetic: products of matrices of 8 by 8 halves, summed in float (matrices.h). Keys: 16 tokens by 16 of a row's
//   values, times the queries. Values: 16 of a row's values by 16 tokens, times the weights (tiles.h says which of them).
//   Weights are up to 2^4, against underflow in half. Relative error against float64 on the same bytes: bfloat16's own 1.7e-3.
  constexpr int H = units_of<D>();
  constexpr int U = H / SHARERS;             // units that a SIMD-group has
  constexpr int TILES = SIMDS / SHARERS;     // tiles that a threadgroup has at a time
  constexpr bool WIDE = HEADS > 4;           // a column of the matrices for each query vector, else two
  constexpr int COLUMNS = WIDE ? 8 : 4;
  constexpr int KEY_SIDES = sides_of<G>();
  constexpr int VALUE_SIDES = value_sides<G, WIDE>();
  constexpr int W = D / 8;
  constexpr int N = (D + G - 1) / G;
  constexpr int PADDED_W = N * G / 8;        // words of a row's groups, the last one whole
  constexpr int LANES = lanes_of<D>();       // lanes that have a row to be rotated
  constexpr int R = points_of<D>();          // complex numbers that each of them starts with
  constexpr int PARTS = forward_parts<D>();  // SIMD-groups that rotate a row
  constexpr int C = R / PARTS;               // complex numbers that a lane of them has in the end
  constexpr int GROUPS = SIMDS / PARTS;
  // SIMD-groups whose sums are in `totals` at a time.
  constexpr int ROOMS = TILES * HEADS * D <= 4096 ? TILES : (TILES + 1) / 2;
  constexpr int ROOM_PACKS = ROOMS * room_packs<D, HEADS>();
  constexpr int NEW_AT = L == 1 ? ROOM_PACKS : 0;  // the pack among the rooms at which new rows lie; a single token's behind
  SHARED(uint4, query_packs, 2 * H * 32);
  SHARED(float, query_factors, COLUMNS);
  SHARED(float, tops, ROOMS * HEADS);
  SHARED(float, weights, ROOMS * HEADS);
  SHARED(float4, total_packs, (ROOM_PACKS > NEW_AT + L * D / 2 ? ROOM_PACKS : NEW_AT + L * D / 2));
  SHARED(float, scales_tried, 2 * L * N * SCALE_CHOICES);
  SHARED(float, scale_errors, 2 * L * N * SCALE_CHOICES);
  SHARED(float4, score_shares, (SHARERS > 1 ? SIMDS * 32 : 1));
  SHARED(uint, new_codes, 2 * L * W);
  SHARED(half, new_scales, 2 * L * N);
  SHARED_POINTER(float) totals = (SHARED_POINTER(float))total_packs;
  SHARED_POINTER(float) rotated = totals + 4 * NEW_AT;
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const int thread_id = thread_index_in_threadgroup;
  const int holder = simd / SHARERS;  // of one of the threadgroup's tiles
  const int sharer = simd % SHARERS;
  const int first_unit = U * sharer;
  const int block = threadgroup_position_in_grid.x;
  const int set = threadgroup_position_in_grid.y;
  const int batch = B == 1 ? 0 : threadgroup_position_in_grid.z;
  const int blocks = threadgroups_per_grid.x;
  const int capacity = codes_shape[3];
  const int kv_head = set / SETS;
  const int first_vector = (batch * HK * SETS + set) * HEADS;
  const int first_of_head = set % SETS * HEADS;  // the same among the kv head's own vectors
  // Of the matrices a lane has row `line` and columns 2 pair and 2 pair + 1: of a tile's tokens own_token and own_token + 8
  // the scores for the two query vectors from own_vector on.
  const int line = matrix_row(lane);
  const int pair = matrix_pair(lane);
  const int own_token = token_of(line);
  const int own_vector = first_vector_of<WIDE>(pair);
  const int key_row = (batch * HK + kv_head) * capacity;
  const int value_row = ((B + batch) * HK + kv_head) * capacity;
  const int constants = 3 * D;
  const int lambdas = constants + (MU ? 2 * HK * D : 0);
  const int smoothings = lambdas + (LAMBDA ? 2 * HK * D : 0);
  const int bounds = smoothings + (SMOOTH ? HK * D : 0);
  // Rows to be rotated, each by a GROUP of SIMD-groups: in the last block the new tokens' keys and values, in turns, which
  // every set of a kv head codes for itself; then the query vectors. A lane asks for its first two at once.
  const bool last = !CODED && block == blocks - 1;
  const int new_rows = last ? 2 * L : 0;
  const int next_tiles = (blocks * TILES - (CODED ? 0 : 1)) * 16;  // from a SIMD-group's tile to its next one, in tokens
  const int rows = new_rows + HEADS;
  const int part = simd % PARTS;
  int r = simd < GROUPS * PARTS ? simd / PARTS : rows;
  const int first_new_row = (batch * HK + kv_head) * L;
  constexpr int TURNS = ((CODED ? 0 : 2 * L) + HEADS + GROUPS - 1) / GROUPS;  // rows that a lane rotates, at most
  uint x_raw[R];
  uint x_next[R];     // of the row after that
  float2 centre[R];   // of new keys or of new values
  float2 smooth[R];   // by which new keys are divided and queries multiplied
  float rotation[forward_floats<D>()];
  // Otherwise than in one launch by all of them: NVRTC puts what stands in a branch behind the tiles'.
  if (!WHOLE || r < rows) {
    const int first_row = min(r, rows - 1);
    load_row<D>(x_raw, row_to_rotate<D>(first_row, new_rows, keys, values, first_new_row, queries, first_vector), lane);
    if (TURNS > 1) {
      const int next_row = min(r + GROUPS, rows - 1);
      load_row<D>(x_next, row_to_rotate<D>(next_row, new_rows, keys, values, first_new_row, queries, first_vector), lane);
    }
    load_pairs<D, SMOOTH>(smooth, table + smoothings + kv_head * D, lane);
    load_lane<forward_floats<D>()>(rotation, table + forward_at<D, HK, MU, LAMBDA, SMOOTH>(), part * 32 + lane, PARTS * 32);
    if (!CODED) load_pairs<D, MU>(centre, table + constants + (r % 2 * HK + kv_head) * D, lane);
  }
  // There a core has so many tiles to wait for that none is asked for before these rows.
  if (WHOLE) threadgroup_barrier(mem_flags::mem_none);
  const thread float* signs = rotation + 2 * forward_twiddles<D>();
  const float query_bound = LAMBDA ? table[bounds + kv_head] : 1.0f;
  const float query_scale = table[bounds + (LAMBDA ? HK : 0)];
  int first = (block * TILES + holder) * 16;
  const int first_there = min(first, capacity - 16);
  uint key_words[2][2 * U];  // of tokens own_token and own_token + 8
  uint key_steps[2][pairs_of<U, KEY_SIDES>()];
  uint value_words[4][words_of<U, WIDE>()];  // of tokens pair, pair + 4, and the same + 8
  uint value_steps[2][pairs_of<U, VALUE_SIDES>()];
  // NVRTC has one counter for all loads that are under way: what waits for the row waits for the tile too, if that has been
  // asked for. Where there are many tiles the first one is asked for when the rows are there, and all that goes with them.
  constexpr bool PATIENT = !WHOLE && !SINGLE;
  int before = 0;
  int first_known = first_there;
  if (PATIENT) {
    before = position[0];
    uint arrived = as_type<uint>(query_scale) ^ (uint)before;
    #pragma unroll
    for (int j = 0; j < R; j++) {
      arrived ^= x_raw[j];
      if (TURNS > 1) arrived ^= x_next[j];
      if (SMOOTH) arrived ^= as_type<uint>(smooth[j].x);
      if (MU && !CODED) arrived ^= as_type<uint>(centre[j].x);
    }
    #pragma unroll
    for (int i = 0; i < forward_floats<D>(); i += 4) arrived ^= as_type<uint>(rotation[i]);
    first_known = KNOWN_AFTER(first_there, arrived);
  }
  load_keys<D, G, U>(key_words, key_steps, codes, scales, key_row + own_token + first_known, pair, first_unit);
  load_values<D, G, U, WIDE>(value_words, value_steps, codes, scales, value_row + first_known, line, pair, first_unit);
  // What un-rotates the result, far from here still.
  constexpr int LINES = (inverse_parts<D>() * 32 * inverse_floats<D>() + 31) / 32;
  if ((WHOLE || block == 0) && thread_id < LINES + (MU ? (D + 31) / 32 : 0)) {
    ASK_FOR(table + (thread_id < LINES ? inverse_at<D, HK, MU, LAMBDA, SMOOTH>() + 32 * thread_id
                                       : constants + (HK + kv_head) * D + 32 * (thread_id - LINES)));
  }
  bool fresh = last && holder == TILES - 1;
  if (!PATIENT) before = position[0];
  const int row = min(WINDOW > 0 ? before % (WINDOW > 0 ? WINDOW : 1) : before, capacity - L);  // of the first new token
  const int seen = WINDOW > 0 ? min(before, WINDOW) : before;
  SHARED_POINTER(half) query_halves = (SHARED_POINTER(half))query_packs;
  #pragma unroll
  for (int turn = 0; turn < (2 * H + SIMDS - 1) / SIMDS; turn++) {
    const int i = turn * SIMDS * 32 + thread_id;
    const int vector = right_column(lane);
    if (i >= 2 * H * 32) break;
    if (D % 64 != 0 || vector >= HEADS) query_packs[i] = zero_pack();
    else if (RIGHT_COLUMNS == 2 && vector == HEADS - 1) {
      #pragma unroll
      for (int e = 0; e < 4; e++) query_halves[8 * i + 2 * e + 1] = (half)0.0f;
    }
  }
  if (thread_id >= HEADS && thread_id < COLUMNS) query_factors[thread_id] = 0.0f;
  if (D % 64 != 0) threadgroup_barrier(mem_flags::mem_threadgroup);  // what is beyond a row stays zero
  uint query_spots[2 * C];  // where the first query's values go
  #pragma unroll
  for (int c = 0; c < 2 * C; c++) {
    query_spots[c] = query_at(packed_at<D, PARTS>(c, part, lane), 0);
    WORK_OUT(query_spots[c]);
  }
  // Where queries are left once the new rows are rotated, the SIMD-groups that have none of them begin to code.
  constexpr int NEW_END = (2 * L + GROUPS - 1) / GROUPS * GROUPS;
  const bool early = last && NEW_END < rows;
  for (int begun = 0; begun < rows; begun += GROUPS) {
    if (early && begun == NEW_END) threadgroup_barrier(mem_flags::mem_threadgroup);
    if (r < rows) {
      const bool is_new = new_rows > 0 && r < new_rows;
      const int which = r % 2;                 // of a new row: 0 a key, 1 a value
      const int h = r - new_rows;              // of a query
      float re[R];
      float im[R];
      float squares = 0.0f;
      #pragma unroll
      for (int j = 0; j < R; j++) {
        re[j] = (float)as_type<T>((ushort)x_raw[j]);
        im[j] = (float)as_type<T>((ushort)(x_raw[j] >> 16));
        if (MU && is_new) {
          re[j] -= centre[j].x;
          im[j] -= centre[j].y;
        }
        if (SMOOTH && !(is_new && which == 1)) {
          re[j] *= is_new ? reciprocal(smooth[j].x) : smooth[j].x;
          im[j] *= is_new ? reciprocal(smooth[j].y) : smooth[j].y;
        }
        re[j] *= signs[2 * j];
        im[j] *= signs[2 * j + 1];
        squares += re[j] * re[j] + im[j] * im[j];
      }
      const bool alone = LANES == 32 || lane < LANES;  // of lanes that have the same values
      const float squared_norm = simd_sum(alone ? squares : 0.0f);
      float x[2 * C];
      srft_lanes<D>(re, im, x, rotation, part, lane);
      if (LAMBDA) {
        const device float* lambda = table + lambdas + ((is_new ? which : 0) * HK + kv_head) * D;
        #pragma unroll
        for (int c = 0; c < 2 * C; c++) {
          const float weighed_by = lambda[packed_at<D, PARTS>(c, part, lane)];
          x[c] = is_new ? x[c] * weighed_by : x[c] / weighed_by;
        }
      }
      if (is_new) {
        #pragma unroll
        for (int c = 0; c < 2 * C; c++) {
          if (alone) rotated[r * D + packed_at<D, PARTS>(c, part, lane)] = x[c];
        }
      } else {
        // A query vector goes into the right-hand matrices, brought by a power of two to magnitudes below 2: its norm, which
        // the rotation keeps, bounds them. A row of zeros stays; one with NaN is NaN throughout, and so its result.
        const uint exponent = ((as_type<uint>(squared_norm * query_bound * query_bound) >> 23) + 128u) / 2u;
        const float unit = as_type<float>((254u - exponent) << 23);
        #pragma unroll
        for (int c = 0; c < 2 * C; c++) {
          if (alone) query_halves[query_spots[c] + query_at(0, h)] = (half)(x[c] * unit);
        }
        if (part == 0 && lane == 0) query_factors[h] = query_scale * as_type<float>(exponent << 23);
      }
      r += GROUPS;
      #pragma unroll
      for (int j = 0; j < (TURNS > 1 ? R : 0); j++) x_raw[j] = x_next[j];
      if (TURNS > 2 && r + GROUPS < rows) {
        load_row<D>(x_next, row_to_rotate<D>(r + GROUPS, new_rows, keys, values, first_new_row, queries, first_vector), lane);
      }
      // Of a key or a value, in turns.
      if (GROUPS % 2 == 1 && r < new_rows) load_pairs<D, MU>(centre, table + constants + (r % 2 * HK + kv_head) * D, lane);
    }
  }
  if (early) try_scales<D, G>(rotated, 2 * L, scales_tried, scale_errors, SIMDS - 1 - simd, SIMDS, lane);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (last && !early) {
    try_scales<D, G>(rotated, 2 * L, scales_tried, scale_errors, simd, SIMDS, lane);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (fresh) {
    // Code the new rows, a word a lane, by the best scales tried: of each row the words of this SIMD-group's units.
    constexpr int OWN = PADDED_W / SHARERS;
    #pragma unroll
    for (int w = 0; w < 2 * L * OWN; w += 32) {
      const int own = min(w + lane, 2 * L * OWN - 1);
      const int word = own / OWN * PADDED_W + sharer * OWN + own % OWN;
      // Every value is a sum over the whole row: one NaN or infinity there, and none of them is finite.
      const float scale = best_tried(scales_tried, scale_errors, word / (G / 8));
      const float step = fabs(scale) <= 65504.0f ? scale : NOT_A_NUMBER;
      const float inverse = inverse_of(step);
      float x[8];
      load_word<W, PADDED_W>(x, rotated, word);
      uint packed = 0u;
      #pragma unroll
      for (int i = 0; i < 8; i++) packed |= nibble_of(x[i], inverse) << (4 * i);
      if (w + lane < 2 * L * OWN && word % PADDED_W < W) {
        const int which = word / PADDED_W % 2;
        const int token = word / PADDED_W / 2;
        const int new_row = which * L + token;
        const int cache_row = (which == 0 ? key_row : value_row) + row + token;
        const int at = word_at<D>(word % PADDED_W);
        new_codes[new_row * W + at] = packed;
        if (set % SETS == 0) IN_PLACE(uint, codes)[cache_row * W + at] = packed;
        if (word % (G / 8) == 0) {
          const int scale_to = scale_at<D, G>(word % PADDED_W / (G / 8));
          new_scales[new_row * N + scale_to] = (half)step;
          if (set % SETS == 0) IN_PLACE(half, scales)[cache_row * N + scale_to] = (half)step;
        }
      }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    load_new_tile<D, G, L, U, WIDE>(key_words, key_steps, value_words, value_steps, new_codes, new_scales, first_unit, line,
                                    pair);
  }

  float factor[2];
  float lift[2];
  float weight[2];
  float4 sum[4 * U];
  #pragma unroll
  for (int e = 0; e < 2; e++) {
    lift[e] = -UNSEEN;
    weight[e] = 0.0f;
    factor[e] = query_factors[own_vector + e];
  }
  #pragma unroll
  for (int i = 0; i < 4 * U; i++) sum[i] = zeros4();
  float score[4];  // of tokens own_token (0, 1) and own_token + 8 (2, 3)
  SHARED_POINTER(uint4) query_units = query_packs + (first_unit * 64 + (WIDE ? lane : left_of(lane)));
  static_assert(SHARERS == 1 || (SHARERS == 2 && D == 256 && SINGLE && ROOMS == TILES), "halves of a single tile");
  if (SHARERS == 2) {
    tile_scores<U, KEY_SIDES>(score, key_words, key_steps, query_units);
    put_score_share(score_shares + simd * 32 + lane, score);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    add_score_share(score, score_shares + (simd ^ 1) * 32 + lane);
  }
  while (fresh || first < seen) {
    const int tile = first;
    const int next_tile = min(first + next_tiles, capacity - 16);
    bool valid[2];
    #pragma unroll
    for (int i = 0; i < 2; i++) {
      const int token = tile + own_token + 8 * i;
      valid[i] = fresh ? own_token + 8 * i < L : token < seen && (CODED || WINDOW == 0 || token != row);
    }
    if (SHARERS == 1) tile_scores<U, KEY_SIDES>(score, key_words, key_steps, query_units);
    if (!SINGLE) load_keys<D, G, U>(key_words, key_steps, codes, scales, key_row + own_token + next_tile, pair, first_unit);
    bool visible[4];
    #pragma unroll
    for (int i = 0; i < 4; i++) {
      visible[i] = valid[i / 2];
      if (L > 1 || MASKED) {
        const int query_token = (first_of_head + own_vector + i % 2) % L;
        const int token = own_token + i / 2 * 8;
        visible[i] = visible[i] && (CODED ? tile + token <= seen - L + query_token : !fresh || token <= query_token);
#if MASKED
        visible[i] = visible[i] && mask[query_token * mask_shape[1] + min((fresh ? row : tile) + token, mask_shape[1] - 1)];
#endif
      }
    }
    weigh_scores<4 * U, SINGLE>(score, visible, factor, lift, weight, sum);
    #pragma unroll
    for (int i = 0; i < 2; i++) {
      #pragma unroll
      for (int u = 0; u < pairs_of<U, VALUE_SIDES>(); u++) value_steps[i][u] = valid[i] ? value_steps[i][u] : 0u;
    }
    add_tile<U, VALUE_SIDES, WIDE>(sum, value_words, value_steps, score, line);
    if (SINGLE) break;
    load_values<D, G, U, WIDE>(value_words, value_steps, codes, scales, value_row + next_tile, line, pair, first_unit);
    first = fresh ? seen : first + next_tiles;
    fresh = false;
  }

  // Sum up over the SIMD-groups, each with the maximum it has: those beyond the rooms join the ones before them.
#if WHOLE
  constexpr int LAST_PARTS = inverse_parts<D>();  // SIMD-groups that un-rotate a row
  const int last_part = simd % LAST_PARTS;
  float inverse[inverse_floats<D>()];
  float2 means[R / LAST_PARTS];
  if (simd < LAST_PARTS * HEADS) {
    load_lane<inverse_floats<D>()>(inverse, table + inverse_at<D, HK, MU, LAMBDA, SMOOTH>(), last_part * 32 + lane,
                                   LAST_PARTS * 32);
    load_means<D, MU>(means, table + constants + (HK + kv_head) * D, last_part, lane);
  }
#endif
  float most[2];
  #pragma unroll
  for (int e = 0; e < 2; e++) {
    most[e] = MOST_POWER - lift[e];
    #pragma unroll
    for (int i = 0; i < 3; i++) weight[e] += simd_shuffle_xor(weight[e], MATRIX_ROW_MASK(i));
  }
  if (last && NEW_AT == 0) threadgroup_barrier(mem_flags::mem_threadgroup);  // until here the rooms are the new rows'
  #pragma unroll
  for (int round = ROOMS < TILES ? 0 : 1; round < 2; round++) {
    const int room = round == 0 ? holder - ROOMS : holder;
    const bool joined = ROOMS < TILES && round == 1 && holder + ROOMS < TILES;
    if (room >= 0 && room < ROOMS) {
      put_sums<D, HEADS, U, WIDE>(total_packs, tops, weights, room, joined, sum, most, weight, first_unit, line, pair);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (thread_id == 0 && block == 0 && set == 0 && batch == 0) next[0] = before + (CODED ? 0 : L);
  constexpr int FOURS = HEADS * D / 4;
  #pragma unroll
  for (int turn = 0; turn < (FOURS + SIMDS * 32 - 1) / (SIMDS * 32); turn++) {
    const int i = turn * SIMDS * 32 + thread_id;
    if (i >= FOURS) break;
    const int h = 4 * i / D;
    const int d = 4 * i % D;
    float top;
    float whole;
    float4 total = sum_rooms<D, HEADS, ROOMS>(total_packs, tops, weights, i, top, whole);
#if WHOLE
    const float factor = reciprocal(whole);
    const device float* lambda = table + (LAMBDA ? lambdas + (HK + kv_head) * D + d : 0);
    total.x *= LAMBDA ? factor / lambda[0] : factor;
    total.y *= LAMBDA ? factor / lambda[1] : factor;
    total.z *= LAMBDA ? factor / lambda[2] : factor;
    total.w *= LAMBDA ? factor / lambda[3] : factor;
    total_packs[room_row<D>(h) + d / 4] = total;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  constexpr int LAST_GROUPS = SIMDS / LAST_PARTS;
  for (int h = simd < LAST_GROUPS * LAST_PARTS ? simd / LAST_PARTS : HEADS; h < HEADS; h += LAST_GROUPS) {
    float2 two[R / LAST_PARTS];
    inverse_srft_lanes<D>(totals + 4 * room_row<D>(h), two, inverse, last_part, lane);
    put_row<D>(result + (first_vector + h) * D, two, means, last_part, lane);
  }
#else
    const int part_at = (first_vector + h) * blocks + block;
    *(device float4*)(sums + (part_at * D + d)) = total;
    if (d == 0) {
      parts[2 * part_at] = top;
      parts[2 * part_at + 1] = whole;
    }
  }
#endif
