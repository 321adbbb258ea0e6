// The rows of new tokens, on their way into the cache: where they come from, the choice of their scales, and their codes as
// a tile. A row's words are counted with those that its last group is filled up with (PADDED).

// Where row r of those that a threadgroup rotates begins: the new tokens' keys and values in turns, then the queries.
template <int L, typename T>
inline const device T* row_to_rotate(int r, int new_rows, const device T* key, int key_stride, const device T* value,
                                     int value_stride, const device T* query, int head_stride, int query_stride,
                                     int first_vector) {
  if (r < new_rows) return r % 2 == 0 ? key + r / 2 * key_stride : value + r / 2 * value_stride;
  const int vector = first_vector + r - new_rows;
  return query + vector / L * head_stride + vector % L * query_stride;
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
    const float error = group_error<8, G / 8>(x, scale, tried % SCALE_CHOICES, 1.0f);
    if (word % (G / 8) == 0) {
      scales[word / (G / 8) * SCALE_CHOICES + tried % SCALE_CHOICES] = scale;
      errors[word / (G / 8) * SCALE_CHOICES + tried % SCALE_CHOICES] = error;
    }
  }
}

// The tried scale of a group that has the least squared error, the first of equals.
inline float best_tried(SHARED_POINTER(float) scales, SHARED_POINTER(float) errors, int group) {
  float scale = scales[group * SCALE_CHOICES];
  float least = errors[group * SCALE_CHOICES];
  #pragma unroll
  for (int i = 1; i < SCALE_CHOICES; i++) {
    if (errors[group * SCALE_CHOICES + i] < least) {
      scale = scales[group * SCALE_CHOICES + i];
      least = errors[group * SCALE_CHOICES + i];
    }
  }
  return scale;
}

// The L new tokens as a tile, from codes and scales of their keys, then of their values. Rows beyond them repeat the last one.
template <int D, int G, int L>
inline void load_new_tile(thread uint (*key_words)[2 * units_of<D>()], thread half (*key_steps)[units_of<D>()],
                          thread uint (*value_words)[units_of<D>()], thread half (*value_steps)[units_of<D>()],
                          SHARED_POINTER(uint) codes, SHARED_POINTER(half) scales, int line, int pair) {
  constexpr int H = units_of<D>();
  constexpr int W = D / 8;
  constexpr int N = (D + G - 1) / G;
  #pragma unroll
  for (int u = 0; u < H; u++) {
    const bool key_there = D % 64 == 0 || 8 * u + 2 * pair < W;
    const bool value_there = D % 64 == 0 || 8 * u + line < W;
    const int group = (64 * u + 32 * (pair / 2)) / G;
    const bool scale_there = D % 64 == 0 || group < N;
    #pragma unroll
    for (int i = 0; i < 2; i++) {
      const int t = min(line + 8 * i, L - 1);
      key_words[i][u] = key_there ? codes[t * W + word_at<D>(8 * u + 2 * pair)] : ZERO_WORD;
      key_words[i][H + u] = key_there ? codes[t * W + word_at<D>(8 * u + 2 * pair + 1)] : ZERO_WORD;
      #pragma unroll
      for (int j = 0; j < 2; j++) {
        const int v = L + min(2 * pair + 8 * i + j, L - 1);
        value_words[2 * i + j][u] = value_there ? codes[v * W + word_at<D>(8 * u + line)] : ZERO_WORD;
      }
      key_steps[i][u] = scale_there ? scales[t * N + scale_at<D, G>(group)] : (half)0.0f;
      value_steps[i][u] = scale_there ? scales[(L + t) * N + scale_at<D, G>(group)] : (half)0.0f;
    }
  }
}
