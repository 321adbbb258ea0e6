// N words, N halves (N = 1, 2 or 4; of words 8 too) that stand together, in as few loads as can be: their address is a
// multiple of their size, or of 16 bytes.
template <int N>
inline void load_words(thread uint* to, const device uint* from) {
  if constexpr (N == 1) {
    to[0] = from[0];
  } else if constexpr (N == 2) {
    const uint2 two = *(const device uint2*)from;
    to[0] = two.x;
    to[1] = two.y;
  } else {
    #pragma unroll
    for (int i = 0; i < N; i += 4) {
      const uint4 four = *(const device uint4*)(from + i);
      to[i] = four.x;
      to[i + 1] = four.y;
      to[i + 2] = four.z;
      to[i + 3] = four.w;
    }
  }
}

template <int N>
inline void load_halves(thread half* to, const device half* from) {
  if constexpr (N == 1) {
    to[0] = from[0];
  } else {
    uint words[N / 2];
    load_words<N / 2>(words, (const device uint*)from);
    #pragma unroll
    for (int i = 0; i < N / 2; i++) {
      const half2 two = as_type<half2>(words[i]);
      to[2 * i] = two.x;
      to[2 * i + 1] = two.y;
    }
  }
}

// A lane's scales of a row, on its side of each unit.
template <int D, int G>
inline void load_steps(thread half* steps, const device half* from, int side) {
  constexpr int H = (D + 63) / 64;
  constexpr int N = (D + G - 1) / G;
  if constexpr (D == 64 || D == 128 || D == 256) {
    load_halves<H>(steps, from + side * (N - H));
  } else {
    #pragma unroll
    for (int u = 0; u < H; u++) {
      const int group = (64 * u + 32 * side) / G;
      steps[u] = D % 64 == 0 || group < N ? from[group] : (half)0.0f;
    }
  }
}

#define ZERO_WORD 0x88888888u                // eight codes of value 0

// A tile's keys, as the fused step's lanes hold them: of rows t and t + 8 of the lane's codes each unit's words 2 pair and
// 2 pair + 1, and its scale. In rows whose units are interleaved they stand together.
template <int D, int G>
inline void load_keys(thread uint (*words)[2 * ((D + 63) / 64)], thread half (*steps)[(D + 63) / 64],
                      const device uint* codes, const device half* scales, int t, int pair) {
  constexpr int H = (D + 63) / 64;
  constexpr int W = D / 8;
  constexpr int N = (D + G - 1) / G;
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    const device uint* from = codes + (t + 8 * i) * W;
    if constexpr (D == 64 || D == 128 || D == 256) {
      load_words<2 * H>(words[i], from + 2 * H * pair);
    } else {
      #pragma unroll
      for (int u = 0; u < H; u++) {
        const bool there = D % 64 == 0 || 8 * u + 2 * pair < W;
        words[i][u] = there ? from[8 * u + 2 * pair] : ZERO_WORD;
        words[i][H + u] = there ? from[8 * u + 2 * pair + 1] : ZERO_WORD;
      }
    }
    load_steps<D, G>(steps[i], scales + (t + 8 * i) * N, pair / 2);
  }
}

// Its values: of rows t, t + 1, t + 8 and t + 9 of the lane's codes each unit's word `line`; scales of rows t and t + 8.
template <int D, int G>
inline void load_values(thread uint (*words)[(D + 63) / 64], thread half (*steps)[(D + 63) / 64],
                        const device uint* codes, const device half* scales, int t, int line, int side) {
  constexpr int H = (D + 63) / 64;
  constexpr int W = D / 8;
  constexpr int N = (D + G - 1) / G;
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    #pragma unroll
    for (int j = 0; j < 2; j++) {
      const device uint* from = codes + (t + 8 * i + j) * W;
      if constexpr (D == 64 || D == 128 || D == 256) {
        load_words<H>(words[2 * i + j], from + H * line);
      } else {
        #pragma unroll
        for (int u = 0; u < H; u++) {
          words[2 * i + j][u] = D % 64 == 0 || 8 * u + line < W ? from[8 * u + line] : ZERO_WORD;
        }
      }
    }
    load_steps<D, G>(steps[i], scales + (t + 8 * i) * N, side);
  }
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

// Where row r of those that a threadgroup rotates begins: the new tokens' keys and values in turns, then the queries.
template <int L, typename T>
inline const device T* row_to_rotate(int r, int new_rows, const device T* key, int key_stride, const device T* value,
                                     int value_stride, const device T* query, int head_stride, int query_stride,
                                     int first_vector) {
  if (r < new_rows) return r % 2 == 0 ? key + r / 2 * key_stride : value + r / 2 * value_stride;
  const int vector = first_vector + r - new_rows;
  return query + vector / L * head_stride + vector % L * query_stride;
}
