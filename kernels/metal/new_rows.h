// The rows of new tokens, on their way into the cache: where they come from, the choice of their scales, and their codes as
// a tile. A row's words are counted with those that its last group is filled up with (PADDED).

// Where row r of those that a threadgroup rotates begins: the new tokens' keys and values in turns, then the queries.
template <int D, typename T>
inline const device T* row_to_rotate(int r, int new_rows, const device T* keys, const device T* values, int first_new_row,
                                     const device T* queries, int first_vector) {
  const bool is_new = new_rows > 0 && r < new_rows;
  const device T* rows = is_new ? (r % 2 == 0 ? keys : values) : queries;
  return rows + (is_new ? first_new_row + r / 2 : first_vector + r - new_rows) * D;
}

// Word `word` of new rows of W words, counted as if they had PADDED_W; beyond a row zeros, or NaN where the row is.
template <int W, int PADDED_W>
inline void load_word(thread float* x, SHARED_POINTER(float) rows, int word) {
  const int row = word / PADDED_W;
  const int from = W == PADDED_W ? word * 8 : (row * W + word % PADDED_W) * 8;
  const bool there = W == PADDED_W || word % PADDED_W < W;
  #pragma unroll
  for (int i = 0; i < 8; i++) x[i] = there ? rows[from + i] : 0.0f * rows[row * W * 8];
}

// Try the scales of all groups of rows, a word a lane: each SIMD-group tries one choice for 32 words at a time.
template <int D, int G>
inline void try_scales(SHARED_POINTER(float) rows, int count, SHARED_POINTER(float) scales, SHARED_POINTER(float) errors,
                       int simd, int simds, int lane) {
  constexpr int W = D / 8;
  constexpr int PADDED = (D + G - 1) / G * G / 8;
  for (int tried = simd; tried < (count * PADDED + 31) / 32 * SCALE_CHOICES; tried += simds) {
    const int word = min(tried / SCALE_CHOICES * 32 + lane, count * PADDED - 1);
    float x[8];
    load_word<W, PADDED>(x, rows, word);
    float low = x[0];
    float high = x[0];
    #pragma unroll
    for (int i = 1; i < 8; i++) {
      low = min(low, x[i]);
      high = max(high, x[i]);
    }
    #pragma unroll
    for (int apart = 1; apart < G / 8; apart *= 2) {
      low = min(low, simd_shuffle_xor(low, apart));
      high = max(high, simd_shuffle_xor(high, apart));
    }
    const float scale = scale_tried((-low >= high ? low : high) / -8.0f, tried % SCALE_CHOICES);
    const float error = group_error<8, G / 8>(x, scale, 1.0f, true);
    if (word % (G / 8) == 0) {
      scales[word / (G / 8) * SCALE_CHOICES + tried % SCALE_CHOICES] = scale;
      errors[word / (G / 8) * SCALE_CHOICES + tried % SCALE_CHOICES] = error;
    }
  }
}

// The tried scale of a group that has the least squared error, the first of equals, or of small ones.
inline float best_tried(SHARED_POINTER(float) scales, SHARED_POINTER(float) errors, int group) {
  const float first = scales[group * SCALE_CHOICES];
  float scale = first;
  float least = errors[group * SCALE_CHOICES];
  #pragma unroll
  for (int i = 1; i < SCALE_CHOICES; i++) {
    if (errors[group * SCALE_CHOICES + i] < least) {
      scale = scales[group * SCALE_CHOICES + i];
      least = errors[group * SCALE_CHOICES + i];
    }
  }
  return fabs(first) < SMALLEST_TRIED ? first : scale;
}

// Scales of new row `row`, as `load_steps` would load them.
template <int D, int G, int U, int SIDES>
inline void load_new_steps(thread uint* pairs, SHARED_POINTER(half) scales, int row, int own_side, int first_unit) {
  constexpr int N = (D + G - 1) / G;
  half2 two[pairs_of<U, SIDES>()];
  #pragma unroll
  for (int i = 0; i < 2 * pairs_of<U, SIDES>(); i++) {
    const int group = (64 * (first_unit + i % U) + 32 * (SIDES == 1 ? own_side : i / U)) / G;
    const half step = i < SIDES * U && group < N ? scales[row * N + scale_at<D, G>(min(group, N - 1))] : (half)0.0f;
    if (i % 2 == 0) two[i / 2].x = step;
    else two[i / 2].y = step;
  }
  #pragma unroll
  for (int i = 0; i < pairs_of<U, SIDES>(); i++) pairs[i] = as_type<uint>(two[i]);
}

// Word `word` of each unit of new row `row`, as `load_unit_words` would load them.
template <int D, int U>
inline void load_new_words(thread uint* words, SHARED_POINTER(uint) codes, int row, int word, int first_unit) {
  #pragma unroll
  for (int u = 0; u < U; u++) {
    const int w = 8 * (first_unit + u) + word;
    words[u] = D % 64 == 0 || w < D / 8 ? codes[row * (D / 8) + word_at<D>(w)] : ZERO_WORD;
  }
}

// The L new tokens as a tile, from codes and scales of their keys, then of their values. Rows beyond them repeat the last one.
template <int D, int G, int L, int U, bool WIDE>
inline void load_new_tile(thread uint (*key_words)[2 * U], thread uint (*key_steps)[pairs_of<U, sides_of<G>()>()],
                          thread uint (*value_words)[words_of<U, WIDE>()],
                          thread uint (*value_steps)[pairs_of<U, value_sides<G, WIDE>()>()], SHARED_POINTER(uint) codes,
                          SHARED_POINTER(half) scales, int first_unit, int line, int pair) {
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    const int token = min(token_of(line) + 8 * i, L - 1);
    load_new_words<D, U>(key_words[i], codes, token, pair, first_unit);
    load_new_words<D, U>(key_words[i] + U, codes, token, pair + 4, first_unit);
    load_new_steps<D, G, U, sides_of<G>()>(key_steps[i], scales, token, 0, first_unit);
    #pragma unroll
    for (int j = 0; j < 2; j++) {
      const int row = L + min(pair + 4 * j + 8 * i, L - 1);
      load_new_words<D, U>(value_words[2 * i + j], codes, row, WIDE ? line % 4 : line, first_unit);
      if constexpr (WIDE) load_new_words<D, U>(value_words[2 * i + j] + U, codes, row, line % 4 + 4, first_unit);
    }
    load_new_steps<D, G, U, value_sides<G, WIDE>()>(value_steps[i], scales, L + token, pair / 2, first_unit);
  }
}
