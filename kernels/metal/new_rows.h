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
    const float error = group_error<8, G / 8>(x, scale, 9.0f, 1.0f);
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

// Scales of units 2 i and 2 i + 1 of new row `row`, on the lane's side of each.
template <int D, int G>
inline uint new_steps(SHARED_POINTER(half) scales, int row, int i, int side) {
  constexpr int N = (D + G - 1) / G;
  half2 two;
  two.x = two.y = (half)0.0f;
  const int group = (128 * i + 32 * side) / G;
  if (D % 64 == 0 || group < N) two.x = scales[row * N + scale_at<D, G>(group)];
  if (2 * i + 1 < units_of<D>() && (D % 64 == 0 || group + 64 / G < N)) {
    two.y = scales[row * N + scale_at<D, G>(group + 64 / G)];
  }
  return as_type<uint>(two);
}

// The L new tokens as a tile, from codes and scales of their keys, then of their values. Rows beyond them repeat the last one.
template <int D, int G, int L, int U>
inline void load_new_tile(thread uint (*key_words)[2 * U], thread uint (*key_steps)[pairs_of<U>()],
                          thread uint (*value_words)[U], thread uint (*value_steps)[pairs_of<U>()],
                          SHARED_POINTER(uint) codes, SHARED_POINTER(half) scales, int first_unit, int line, int pair) {
  constexpr int W = D / 8;
  #pragma unroll
  for (int u = 0; u < U; u++) {
    const int key_word = 8 * (first_unit + u) + 2 * pair;
    const int value_word = 8 * (first_unit + u) + line;
    const bool key_there = D % 64 == 0 || key_word < W;
    const bool value_there = D % 64 == 0 || value_word < W;
    #pragma unroll
    for (int i = 0; i < 2; i++) {
      const int t = min(line + 8 * i, L - 1);
      key_words[i][u] = key_there ? codes[t * W + word_at<D>(key_word)] : ZERO_WORD;
      key_words[i][U + u] = key_there ? codes[t * W + word_at<D>(key_word + 1)] : ZERO_WORD;
      #pragma unroll
      for (int j = 0; j < 2; j++) {
        const int v = L + min(2 * pair + 8 * i + j, L - 1);
        value_words[2 * i + j][u] = value_there ? codes[v * W + word_at<D>(value_word)] : ZERO_WORD;
      }
      if (u % 2 == 0) {
        key_steps[i][u / 2] = new_steps<D, G>(scales, t, (first_unit + u) / 2, pair / 2);
        value_steps[i][u / 2] = new_steps<D, G>(scales, L + t, (first_unit + u) / 2, pair / 2);
      }
    }
  }
}
